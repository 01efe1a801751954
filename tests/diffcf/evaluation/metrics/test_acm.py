from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from processes import in_two

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.acm import ACM, absolute_counterfactual_mismatch

GRAPH = CausalGraph([Factor("a"), Factor("b"), Factor("c")], [("a", "b")])


def _data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    read, target = torch.rand(2, 31, 3, generator=generator)
    return read, target, torch.randint(3, (31,), generator=generator)


def test_a_hand_made_case() -> None:
    acm = ACM(GRAPH, steps=2)
    acm.update(torch.tensor([[0.5, 0.2, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([0]))
    acm.update(torch.tensor([[0.0, 0.0, 0.6]]), torch.zeros(1, 3), torch.tensor([1]), step=1)
    result = {name: round(value.item(), 4) for name, value in acm.compute().items()}
    assert result["acm/a"] == 0.1 and result["acm/a/b"] == 0.3 and result["acm/a/a"] == 0.0
    assert result["acm/b"] == 0.2 and result["acm/b/c"] == 0.6
    assert result["acm"] == 0.15
    assert result["acm/roots"] == 0.1, "a is the only factor with effects and no cause"
    assert result["acm/leaves"] == 0.2, "b; c never was intervened on"
    assert result["acm/step_1"] == 0.1 and result["acm/step_2"] == 0.2
    assert "acm/c" not in result


def test_steps_pool_images_and_interventions_do_not() -> None:
    """Three images: do(a) thrice in the first step; do(a), do(b), do(b) in the second."""
    acm, target = ACM(GRAPH, steps=2), torch.zeros(3, 3)
    first = torch.tensor([[0.3], [0.3], [0.3]]).expand(3, 3)
    second = torch.tensor([[0.7], [0.1], [0.2]]).expand(3, 3)
    acm.update(first, target, torch.tensor([0, 0, 0]), 0, torch.arange(3))
    acm.update(second, target, torch.tensor([0, 1, 1]), 1, torch.arange(3))
    result = {name: round(value.item(), 4) for name, value in acm.compute().items()}
    assert result["acm/a"] == 0.4 and result["acm/a/c"] == 0.4, "four rows, not two steps"
    assert result["acm/b"] == 0.15 and result["acm"] == 0.275, "the mean over a and b"
    assert result["acm/step_1"] == 0.3
    assert result["acm/step_2"] == round(1 / 3, 4), "the mean over its three images"
    assert set(acm.intervals(resamples=20)) == set(result)


def test_batch_size_does_not_matter() -> None:
    read, target, which = _data()
    whole, parts = ACM(GRAPH), ACM(GRAPH)
    whole.update(read, target, which)
    for rows in torch.arange(31).split(7):
        parts.update(read[rows], target[rows], which[rows])
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value)


def test_two_processes_agree_with_one(tmp_path) -> None:
    read, target, which = _data()
    alone = ACM(GRAPH)
    alone.update(read, target, which)
    in_two(_half, tmp_path)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert shared.keys() == alone.compute().keys()
        for name, value in alone.compute().items():
            torch.testing.assert_close(shared[name], value, atol=1e-6, rtol=0)


def _half(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    read, target, which = _data()
    acm = ACM(GRAPH)
    acm.update(read[rank::2], target[rank::2], which[rank::2])
    torch.save(acm.compute(), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="seen no image"):
        ACM(GRAPH).compute()
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 2\)"):
        absolute_counterfactual_mismatch(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        absolute_counterfactual_mismatch(torch.full((1, 3), torch.nan), torch.zeros(1, 3))


def test_what_does_not_fit_the_graph_is_named() -> None:
    two, three = torch.zeros(2, 2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"factors \[B, 3\], got \(2, 2\) and \(2, 2\)"):
        ACM(GRAPH).update(two, two, torch.tensor([0, 1]))
    for columns in ([0, 3], [-1, 0], [0]):
        with pytest.raises(ValueError, match="the column, 0 to 2, of the factor set in each of"):
            ACM(GRAPH).update(three, three, torch.tensor(columns))
    with pytest.raises(ValueError, match=r"made for 2 step\(s\), counted from 0, and got step 2"):
        ACM(GRAPH, steps=2).update(three, three, torch.tensor([0, 1]), step=2)
