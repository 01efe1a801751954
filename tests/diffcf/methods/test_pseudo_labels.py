"""A reading stands in for a missing label once it is sure, and for nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_nscms import CATEGORICAL, CONTINUOUS, make
from torch import Tensor, nn

from diffcf.causal import CausalGraph, FactorPosterior, Marks
from diffcf.methods.pseudo_labels import with_pseudo_labels

NAN = math.nan


class Says(nn.Module):
    """A projector that reads the same off every image."""

    def __init__(self, mean: list[float], deviation: list[float]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.variance = torch.tensor(deviation).square()

    def forward(self, image: Tensor, t: Tensor) -> FactorPosterior:
        shape = (len(image), -1)
        return FactorPosterior(self.mean.expand(shape), self.variance.expand(shape))


class Pulls:
    """A causal model that pulls every reading up by half its standard deviation."""

    def __init__(self, graph: CausalGraph) -> None:
        self.graph = graph

    def refine(self, code: Tensor, variance: Tensor, contamination: float) -> Tensor:
        return self.graph.decode(code) + 0.5 * self.graph.first_columns(variance).sqrt()


def completed(
    graph: CausalGraph,
    projector: Says,
    factors: Tensor,
    intervened: Tensor | None = None,
    nscm: Any = None,
) -> Tensor:
    image, there = torch.zeros(len(factors), 3, 8, 8), ~factors.isnan()
    marks = Marks(there, torch.zeros_like(there) if intervened is None else intervened)
    return with_pseudo_labels(projector, nscm or make(graph), image, factors, marks, 0.05)


def test_only_sure_readings_stand_in_and_labels_stay() -> None:
    projector = Says([0.3, 0.6, 0.2, 0.4], [0.04, 0.06, 0.001, 0.05])
    factors = torch.tensor([[NAN] * 4, [0.9, 0.8, 0.7, 0.6], [NAN, 0.1, 0.2, NAN]])
    found = completed(CONTINUOUS, projector, factors)
    assert found.isnan().nonzero().tolist() == [[0, 1]], "unsure of the light alone"
    assert torch.equal(found[1], factors[1]) and torch.equal(found[2, 1:3], factors[2, 1:3])
    assert found[0, 0] == pytest.approx(0.3), "a root stays as it is read"
    assert not found.requires_grad


def test_the_causal_model_refines_what_stands_in_but_not_what_was_set() -> None:
    projector = Says([0.5, 0.5, 0.5, 0.99], [0.04] * 4)
    factors = torch.tensor([[0.9, NAN, NAN, NAN]])
    by_hand = torch.tensor([[False, False, True, False]])
    found = completed(CONTINUOUS, projector, factors, intervened=by_hand, nscm=Pulls(CONTINUOUS))
    # By half a standard deviation, but not beyond the range.
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.52, 0.5, 1.0]]), atol=1e-5, rtol=0)


def test_a_discrete_reading_is_sure_by_its_probability() -> None:
    sure, unsure = 0.9999, 0.99  # of a standard deviation of .01 and .1

    def says(shape: float, lit: float) -> Says:
        mean = torch.tensor([1 - shape, shape, 0.0, 0.5, lit, 0.5, 0.5])
        deviation = (mean * (1 - mean)).sqrt()
        return Says(mean.tolist(), deviation.tolist())

    nothing = torch.full((1, 4), NAN)
    found = completed(CATEGORICAL, says(sure, unsure), nothing)
    assert found[0, 0] == 0.5, "the second of three categories"
    assert found[0, 1:].isnan().all()
    assert completed(CATEGORICAL, says(unsure, sure), nothing)[0, 2] == 1
