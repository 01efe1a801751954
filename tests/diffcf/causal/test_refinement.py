from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.methods.engine import Sampling

SIZE = 400
GRAPH = CausalGraph(
    [Factor("sun"), Factor("rain", kind="binary"), Factor("shade"), Factor("mood")],
    [("sun", "shade"), ("shade", "mood"), ("rain", "mood")],
)
DEVIATION = torch.tensor([0.02, 0.02, 0.02, 0.02])


def world(count: int) -> Tensor:
    """Shade is a function of the sun; mood is not, of anything, and its spread is wide."""
    sun, rain, mood = torch.rand(count), (torch.rand(count) < 0.5).float(), torch.rand(count)
    return torch.stack([sun, rain, 0.2 + 0.6 * sun.square(), mood], dim=1)


@pytest.fixture(scope="module")
def nscm() -> NSCM:
    torch.manual_seed(0)
    model = NSCM(GRAPH, hidden=(32, 32))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(world(256))["nscm"].backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def true() -> Tensor:
    return world(SIZE)


@pytest.fixture(scope="module")
def read(true: Tensor) -> Tensor:
    misread = true + DEVIATION * torch.randn_like(true)
    misread[:, 1] = (true[:, 1] + 0.3 * torch.randn(SIZE)).clamp(0, 1)  # a probability
    return misread


def refined(nscm: NSCM, read: Tensor, contamination: float = 0.5) -> Tensor:
    return nscm.refine(read, DEVIATION.square().expand_as(read), contamination)


def error(factors: Tensor, true: Tensor) -> Tensor:
    return (factors - true).abs().mean(dim=0)


def test_a_nearly_certain_mechanism_corrects_a_reading(
    nscm: NSCM, read: Tensor, true: Tensor
) -> None:
    before, after = error(read, true), error(refined(nscm, read), true)
    # The sun's own misreading goes on through the mechanism, whose slope is .6 on average.
    assert after[2] < 0.8 * before[2]
    assert error(refined(nscm, torch.cat([true[:, :1], read[:, 1:]], 1)), true)[2] < 0.5 * before[2]


def test_a_wide_mechanism_leaves_a_reading_alone(nscm: NSCM, read: Tensor, true: Tensor) -> None:
    moved = error(refined(nscm, read), read)[3]
    assert moved < 0.3 * error(read, true)[3]


def test_roots_and_discrete_factors_stay_as_they_are_read(nscm: NSCM, read: Tensor) -> None:
    found, decoded = refined(nscm, read), GRAPH.decode(read)
    assert torch.equal(found[:, :2], decoded[:, :2])


def test_a_factor_that_was_set_keeps_its_reading(nscm: NSCM, true: Tensor) -> None:
    cut = true.clone()
    cut[:, 2] = (true[:, 2] + 0.4) % 1.0
    assert error(refined(nscm, cut), cut)[2] < 1e-3
    certain = refined(nscm, cut, contamination=0.0)
    assert error(certain, cut)[2] > 10 * error(refined(nscm, cut), cut)[2], "δ = 0 allows no cut"


def test_with_full_contamination_it_is_what_was_read(nscm: NSCM, read: Tensor) -> None:
    assert torch.equal(refined(nscm, read, contamination=1.0), GRAPH.decode(read))


def test_less_contamination_moves_further(nscm: NSCM, read: Tensor) -> None:
    moved = [error(refined(nscm, read, c), read)[2] for c in (0.999, 0.9, 0.5, 0.0)]
    assert moved == sorted(moved)


def test_a_sure_reading_stands(nscm: NSCM, read: Tensor) -> None:
    found = nscm.refine(read, torch.full_like(read, 1e-10), 0.5)
    assert error(found, GRAPH.decode(read)).max() < 1e-4


def test_precision_and_shape_are_kept(nscm: NSCM, read: Tensor) -> None:
    assert refined(nscm, read).dtype == torch.float32
    assert refined(nscm, read.double()).dtype == torch.float64
    assert refined(nscm, read).shape == read.shape


@pytest.mark.parametrize("contamination", [-0.1, 1.1, float("nan")])
def test_contamination_is_a_probability(contamination: float) -> None:
    with pytest.raises(ValueError, match="contamination of sampling is a probability"):
        Sampling(contamination=contamination)
