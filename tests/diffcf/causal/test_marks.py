"""Which mechanisms enter the likelihood, where labels are missing and factors were set."""

from __future__ import annotations

import pytest
import torch
from small_nscms import CATEGORICAL, CONTINUOUS, make
from torch import Tensor

from diffcf.causal import NSCM, CausalGraph, LevelBalance, Marks, uniform_factors

ROWS = 32


def sample(graph: CausalGraph) -> Tensor:
    return uniform_factors(graph, ROWS, torch.Generator().manual_seed(1))


def random_marks(graph: CausalGraph) -> Marks:
    generator = torch.Generator().manual_seed(2)
    shape = (ROWS, len(graph))
    observed = torch.rand(shape, generator=generator) < 0.7
    return Marks(observed, torch.rand(shape, generator=generator) < 0.2)


def gradients(nscm: NSCM, factors: Tensor, marks: Marks | None) -> list[Tensor]:
    nscm.zero_grad()
    sum(nscm.loss(factors, marks).values()).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in nscm.parameters()]


@pytest.mark.parametrize("graph", [CONTINUOUS, CATEGORICAL], ids=["continuous", "every kind"])
def test_the_likelihood_is_that_of_the_mechanisms_that_count(graph: CausalGraph) -> None:
    nscm, factors, marks = make(graph), sample(graph), random_marks(graph)
    each = nscm.log_prob(factors).detach()
    total = 0.0
    for row in range(ROWS):
        for k, name in enumerate(graph.names):
            needed = [k, *map(graph.column, graph.parents(name))]
            if marks.observed[row, needed].all() and not marks.intervened[row, k]:
                total += float(each[row, k])
    given = factors.masked_fill(~marks.observed, torch.nan)
    found = float(nscm.loss(given, marks)["nscm"])
    assert found == pytest.approx(-total / factors.numel(), rel=1e-5)
    assert found != pytest.approx(float(nscm.loss(factors)["nscm"]), rel=1e-2)


def test_marks_that_mark_nothing_change_nothing() -> None:
    nscm, factors = make(CATEGORICAL), sample(CATEGORICAL)
    whole = torch.ones_like(factors, dtype=torch.bool)
    assert torch.equal(nscm.loss(factors, Marks(whole, ~whole))["nscm"], nscm.loss(factors)["nscm"])


@pytest.mark.parametrize("graph", [CONTINUOUS, CATEGORICAL], ids=["continuous", "every kind"])
def test_a_row_of_which_all_was_set_contributes_nothing(graph: CausalGraph) -> None:
    nscm, factors = make(graph), sample(graph)
    whole = torch.ones_like(factors, dtype=torch.bool)
    assert not any(g.any() for g in gradients(nscm, factors, Marks(whole, whole)))
    # Half of the rows set, the gradient is that of the others, whose mean is over half as many.
    half = (torch.arange(ROWS) < ROWS // 2)[:, None].expand_as(whole)
    found = gradients(nscm, factors, Marks(whole, half))
    expected = gradients(nscm, factors[ROWS // 2 :], None)
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(2 * value, other, rtol=1e-4, atol=1e-6)


def test_setting_an_effect_leaves_its_mechanism_out_and_no_other() -> None:
    nscm, factors = make(CONTINUOUS), sample(CONTINUOUS)
    whole, column = torch.ones_like(factors, dtype=torch.bool), CONTINUOUS.column("length")
    marks = Marks(whole, torch.zeros_like(whole))
    marks.intervened[:, column] = True
    weight, *_ = gradients(nscm, factors, marks)
    moved = weight.flatten(1).any(dim=1)
    assert not moved[column] and moved[CONTINUOUS.column("position")]


def test_what_a_missing_label_would_have_been_has_no_influence() -> None:
    nscm, factors, marks = make(CATEGORICAL), sample(CATEGORICAL), random_marks(CATEGORICAL)
    others = torch.where(marks.observed, factors, factors.roll(1, 0))
    for value, other in zip(
        gradients(nscm, factors, marks), gradients(nscm, others, marks), strict=True
    ):
        assert torch.equal(value, other)


def test_a_learned_graph_learns_from_whole_rows_alone() -> None:
    nscm = make(CONTINUOUS, learned_graph=True).train()
    factors = sample(CONTINUOUS)
    lacking = torch.ones_like(factors, dtype=torch.bool)
    lacking[:, 0] = False  # any factor may depend on it
    marks = Marks(lacking, torch.zeros_like(lacking))
    given = factors.masked_fill(~lacking, torch.nan)
    nscm.loss(given, marks)["nscm"].backward()
    assert all(p.grad is None or not p.grad.any() for p in nscm.parameters())
    nscm.loss(factors, Marks(~torch.zeros_like(lacking), marks.intervened))["nscm"].backward()
    assert nscm.gates.logits.grad.any()


def test_a_set_factor_tells_nothing_of_the_edges_into_it() -> None:
    nscm, factors = make(CONTINUOUS, learned_graph=True).train(), sample(CONTINUOUS)
    whole = torch.ones_like(factors, dtype=torch.bool)
    marks = Marks(whole, torch.zeros_like(whole))
    marks.intervened[:, 2] = True
    nscm.loss(factors, marks)["nscm"].backward()
    moved = nscm.gates.logits.grad.any(dim=1)
    assert moved.tolist() == [True, True, False, True]


def test_a_batch_without_marks_has_none() -> None:
    factors = torch.rand(3, 2)
    assert Marks.of({"factors": factors}) is None
    some = torch.tensor([[True, False]] * 3)
    assert torch.equal(Marks.of({"observed": some}).intervened, torch.zeros_like(some))
    factors[1, 0] = torch.nan
    found = Marks.of({"factors": factors, "intervened": some})
    assert found.observed.tolist() == [[True, True], [False, True], [True, True]]


def test_levels_are_balanced_over_the_labels_that_are_there() -> None:
    factors = sample(CATEGORICAL)
    given = torch.cat([factors, torch.full_like(factors, torch.nan)])
    weights = LevelBalance(CATEGORICAL, given), LevelBalance(CATEGORICAL, factors)
    torch.testing.assert_close(weights[0](factors), weights[1](factors))
