from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from processes import in_two

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.disentanglement import (
    DCI,
    IRS,
    completeness,
    dci,
    disentanglement,
    irs,
)

GRAPH = CausalGraph(
    [
        Factor("a"),
        Factor("b"),
        Factor("c", "binary"),
        Factor("d", "categorical", categories=("x", "y", "z")),
    ]
)
MIXED = torch.tensor(  # orthogonal, all entries ±½: every code speaks of all factors alike
    [[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0]]
).div(2)


def _factors(count: int = 240, seed: int = 5) -> torch.Tensor:
    uniform = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    uniform[:, 2] = (uniform[:, 2] > 0.4).float()
    uniform[:, 3] = (uniform[:, 3] * 3).floor() / 2
    return uniform


def _mixed(factors: torch.Tensor) -> torch.Tensor:
    return (factors - factors.mean(0)) / factors.std(0) @ MIXED


def test_scores_of_hand_made_importances() -> None:
    one_to_one = torch.eye(3, dtype=torch.float64)[[2, 0, 1]]
    torch.testing.assert_close(disentanglement(one_to_one), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(completeness(one_to_one), torch.ones(3, dtype=torch.float64))
    # Two codes for a, one shared by b and c: the codes of a are pure, and a is split.
    split = torch.tensor([[0.5, 0, 0], [0.5, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.float64)
    halves = 1 - torch.tensor(2.0, dtype=torch.float64).log() / torch.tensor(3.0).log()
    expected = torch.tensor([1, 1, halves, 0], dtype=torch.float64)
    torch.testing.assert_close(disentanglement(split), expected, atol=1e-6, rtol=0)
    expected = torch.tensor([0.5, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(completeness(split), expected, atol=1e-6, rtol=0)
    alone = torch.ones(1, 1, dtype=torch.float64)
    assert disentanglement(alone) == 1 and completeness(alone) == 1, "one code, one factor"


def test_permuted_factors_are_disentangled_complete_and_robust() -> None:
    factors = _factors()
    codes = 2 - 3 * factors[:, [2, 0, 3, 1]]
    result = dci(codes, factors, GRAPH)
    assert result["dci/disentanglement"] > 0.98 and result["dci/completeness"] > 0.98
    assert result["dci/informativeness"] > 0.95
    assert result["dci/informativeness/c"] == 1 and result["dci/informativeness/d"] == 1
    assert irs(codes, factors) == pytest.approx(1, abs=1e-6)


def test_mixed_codes_are_neither_but_still_inform() -> None:
    factors = _factors()
    result = dci(_mixed(factors), factors, GRAPH)
    assert result["dci/disentanglement"] < 0.3 and result["dci/completeness"] < 0.3
    assert 0.3 < result["dci/informativeness"] < 0.9
    assert irs(_mixed(factors), factors) < 0.5


def test_codes_of_nothing_inform_of_nothing() -> None:
    factors, other = _factors(), _factors(seed=6)
    result = dci(other, factors, GRAPH)
    assert result["dci/informativeness"] < 0.05
    assert irs(other, factors) < 0.3
    constant = torch.full_like(factors, 0.3)
    result = dci(constant, factors, GRAPH)
    assert result["dci/disentanglement"] == result["dci/completeness"] == 0
    assert irs(constant, factors) == 0


def test_a_split_factor_is_incomplete_and_a_shared_code_entangled() -> None:
    factors = _factors()
    a, b, c, d = factors.unbind(1)
    first, rest = a.clamp(max=0.5), a.clamp(min=0.5)
    split = dci(torch.stack([first, rest, b, c, d], 1), factors, GRAPH)
    assert split["dci/disentanglement"] > 0.95
    assert split["dci/completeness/a"] < 0.8 < 0.95 < split["dci/completeness/b"]
    shared = dci(torch.stack([a + 2 * c, b, d], 1), factors, GRAPH)
    assert shared["dci/completeness"] > 0.95
    assert shared["dci/disentanglement"] < 0.85


def test_seeds_choose_the_split_and_nothing_else_varies() -> None:
    factors = _factors(80)
    codes = _mixed(factors)
    assert dci(codes, factors, GRAPH) == dci(codes, factors, GRAPH)
    assert dci(codes, factors, GRAPH) != dci(codes, factors, GRAPH, seed=1)


@pytest.mark.parametrize("kind", [DCI, IRS])
def test_neither_batches_nor_repeated_images_matter(kind: type[DCI | IRS]) -> None:
    factors = _factors(120)
    codes, index = _mixed(factors), torch.arange(120)
    whole, parts = kind(GRAPH), kind(GRAPH)
    whole.update(codes, factors)
    rows = torch.cat([index.flip(0), index[:30]])
    for batch in rows.split(17):
        parts.update(codes[batch], factors[batch], index[batch])
    assert _numbers(parts) == _numbers(whole)


def test_two_processes_agree_with_one_even_when_one_saw_nothing(tmp_path) -> None:
    factors = _factors(120)
    alone = IRS(GRAPH)
    alone.update(_mixed(factors), factors, torch.arange(120))
    in_two(_share, tmp_path)
    for rank in range(2):
        for name in ("odd", "lonely"):
            shared = torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True)
            assert shared == _numbers(alone), name


def _share(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    factors = _factors(120)
    codes, index = _mixed(factors), torch.arange(120)
    # A distributed sampler hands some images out twice; the ranks' shares differ in size.
    for name, rows in {"odd": index[rank::2][: 60 - rank], "lonely": index}.items():
        metric = IRS(GRAPH)
        if name == "odd":
            extra = index[-1:] if rank == 0 else index[:3]
            rows = torch.cat([rows, extra])
        elif rank == 1:
            rows = rows[:0]
        if len(rows):
            metric.update(codes[rows], factors[rows], index[rows])
        torch.save(_numbers(metric), f"{out}/{name}{rank}.pt")
    dist.destroy_process_group()


def _numbers(metric: DCI | IRS) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


def test_bad_input_is_named() -> None:
    factors = _factors()
    for metric in (DCI(GRAPH), IRS(GRAPH)):
        with pytest.raises(ValueError, match="has seen no image"):
            metric.compute()
    with pytest.raises(ValueError, match=r"codes \[B, 4\] and factors \[B, 4\], got \[240, 3\]"):
        DCI(GRAPH).update(factors[:, :3], factors)
    with pytest.raises(ValueError, match="IRS met a code that is NaN"):
        IRS(GRAPH).update(torch.full_like(factors, torch.nan), factors)
    with pytest.raises(ValueError, match="DCI needs at least 40 images, got 39"):
        dci(factors[:39], factors[:39], GRAPH)
    with pytest.raises(ValueError, match="IRS needs at least 100 images, got 99"):
        irs(factors[:99], factors[:99])
    with pytest.raises(ValueError, match="'bins' must be at least 2"):
        irs(factors, factors, bins=1)
    with pytest.raises(ValueError, match="cannot learn factor 'c', which has one value"):
        dci(factors, torch.where(GRAPH.binary, 0.0, factors), GRAPH)
