"""CLD: hand-made latents on a line, and agreement between batches and processes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from processes import in_two
from torch.distributions import Independent, Normal, kl_divergence

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.cld import (
    CLD,
    counterfactual_latent_divergence,
    gaussian_divergence,
    same_class,
)

GRAPH = CausalGraph([Factor("cause"), Factor("lit", "binary")], [("cause", "lit")])


def _latents(count: int, seed: int, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, count, width, generator=generator)
    return mean, log_variance


def _data() -> tuple[CLD, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    observed = torch.rand(60, 2, generator=generator).round(decimals=1)
    observed[:, 1] = observed[:, 1].round()
    factors, target = observed[:20], observed[20:40]
    batch = {"target": target, "factors": factors, "index": torch.arange(20)}
    batch |= dict(zip(("moved", "moved_width"), _latents(20, 2), strict=True))
    batch |= dict(zip(("mean", "width"), _latents(20, 3), strict=True))
    return CLD(GRAPH, _latents(60, 4), observed, bins=4), batch


def _update(metric: CLD, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> None:
    part = {name: value[rows] for name, value in batch.items()}
    for column in range(2):
        metric.update(
            (part["moved"], part["moved_width"]),
            (part["mean"], part["width"]),
            part["target"],
            part["factors"],
            column,
            part["index"],
        )


def test_the_divergence_is_that_of_torch() -> None:
    one, two = _latents(7, 0), _latents(7, 1)
    p, q = (Independent(Normal(m, (v / 2).exp()), 1) for m, v in (one, two))
    torch.testing.assert_close(gaussian_divergence(one, two), kl_divergence(p, q))
    table = gaussian_divergence((one[0][None], one[1][None]), (two[0][:, None], two[1][:, None]))
    assert table.shape == (7, 7)
    torch.testing.assert_close(table.diagonal(), gaussian_divergence(one, two))


def test_classes_of_each_kind_of_factor() -> None:
    seen = torch.tensor([0.0, 0.09, 0.5, 1.0])
    same = same_class(torch.tensor([0.05]), seen, Factor("a"))
    assert same.tolist() == [[True, True, False, False]]
    same = same_class(torch.tensor([1.0]), seen, Factor("a"))
    assert same.tolist() == [[False, False, False, True]], "the end of the range is in it"
    same = same_class(torch.tensor([1.0]), seen, Factor("b", "binary"))
    assert same.tolist() == [[False, False, True, True]]
    three = Factor("c", "categorical", categories=("x", "y", "z"))
    assert same_class(torch.tensor([0.5]), seen, three).tolist() == [[False, False, True, False]]


@pytest.mark.parametrize(
    ("distance", "below", "above"),
    [
        (3.0, 0.0, 0.0),  # left the factual's class, nearer than any other of the new one: best
        (0.0, 0.0, 1.0),  # nothing changed
        (9.0, 1.0, 0.0),  # changed more than any other image of the class
        (5.0, 0.5, 0.0),
    ],
)
def test_a_hand_made_case(distance: float, below: float, above: float) -> None:
    observed = torch.tensor([[0.5, 1.0, 4.0, 6.0]])
    own = torch.tensor([[True, True, False, False]])
    cld = counterfactual_latent_divergence(torch.tensor([distance]), observed, ~own, own)
    assert cld.item() == pytest.approx(math.log(math.exp(below) + math.exp(above)))
    weighed = counterfactual_latent_divergence(
        torch.tensor([distance]), observed, ~own, own, weights=(0.8, 0.2)
    )
    expected = math.log(0.8 * math.exp(below) + 0.2 * math.exp(above))
    assert weighed.item() == pytest.approx(expected)


def test_batch_size_does_not_matter_and_an_image_counts_once() -> None:
    whole, batch = _data()
    parts, _ = _data()
    _update(whole, batch, torch.arange(20))
    for rows in (*torch.arange(20).split(7), torch.arange(3)):
        _update(parts, batch, rows)
    result = whole.compute()
    assert set(result) == {"cld", "cld/cause", "cld/lit", "cld/roots", "cld/leaves"}
    torch.testing.assert_close(result["cld"], (result["cld/cause"] + result["cld/lit"]) / 2)
    for name, value in result.items():
        torch.testing.assert_close(parts.compute()[name], value)


def test_two_processes_agree_with_one(tmp_path) -> None:
    alone, batch = _data()
    _update(alone, batch, torch.arange(20))
    in_two(_half, tmp_path)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.compute().items():
            torch.testing.assert_close(shared[name], value)


def _half(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    metric, batch = _data()
    _update(metric, batch, torch.arange(20)[rank::2])
    torch.save(metric.compute(), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_bad_input_is_named() -> None:
    metric, batch = _data()
    with pytest.raises(ValueError, match="seen no image"):
        metric.compute()
    with pytest.raises(ValueError, match=r"factors \[M, 2\] of the observed images"):
        CLD(GRAPH, _latents(5, 0), torch.zeros(4, 2))
    batch["target"] = batch["target"] * 0 + 1.0
    lonely = CLD(GRAPH, _latents(60, 4), torch.zeros(60, 2))
    with pytest.raises(ValueError, match="of whose class nothing was observed"):
        _update(lonely, batch, torch.arange(2))
    mask = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"got \(1, 3\), \(1, 4\) and \(1, 4\)"):
        counterfactual_latent_divergence(torch.zeros(1), torch.zeros(1, 3), mask, mask)
    batch["moved"] = batch["moved"] * torch.nan
    batch["target"] = batch["factors"]
    with pytest.raises(ValueError, match="NaN or infinite"):
        _update(metric, batch, torch.arange(2))
