"""Roots as the training data have them: drawn, recorded, and left alone where they are set."""

from __future__ import annotations

import pytest
import torch
from small_nscms import make
from torch import Tensor

from diffcf.causal import CausalGraph, Factor, Intervention, RootQuantiles, quantiles_of_data
from diffcf.causal.keys import row_keys
from diffcf.io import GraphError
from diffcf.methods import draw_factors

GRAPH = CausalGraph(
    [Factor("hole"), Factor("count", "integer", 0, 4), Factor("flow"), Factor("lit", "binary")],
    [("hole", "flow"), ("count", "flow")],
)
FEW = torch.tensor([0.1, 0.1, 0.1, 0.5])


class Table:
    """A data module of one table."""

    def __init__(self, factors: Tensor, intervened: Tensor | None = None) -> None:
        self.factors, self.set = factors, intervened

    def factors_of(self, split: str) -> Tensor:
        return self.factors

    def intervened_of(self, split: str) -> Tensor | None:
        return self.set


def test_roots_are_drawn_as_often_as_in_the_data_and_their_effects_follow() -> None:
    nscm, keys = make(GRAPH), row_keys(torch.arange(4000))
    roots = RootQuantiles(GRAPH, {"hole": FEW})
    factors, exogenous = draw_factors(nscm, keys, roots=roots)
    plain, before = draw_factors(nscm, keys)
    assert set(factors[:, 0].tolist()) == set(FEW.tolist())
    assert ((factors[:, 0] == FEW[0]).float().mean() - 0.75).abs() < 0.03
    # Of what is not known nothing changes, and noise and factors explain each other.
    assert torch.equal(factors[:, [1, 3]], plain[:, [1, 3]])
    assert torch.equal(exogenous[:, 1:], before[:, 1:])
    decoded = nscm.decode(exogenous).float().clamp(0, 1)
    torch.testing.assert_close(decoded, factors, atol=1e-4, rtol=0)


def test_greater_noise_gives_a_greater_value() -> None:
    keys = row_keys(torch.arange(200))
    roots = RootQuantiles(GRAPH, {"hole": torch.linspace(0, 1, 100)})
    factors, exogenous = draw_factors(make(GRAPH), keys, roots=roots)
    order = exogenous[:, 0].argsort()
    assert (factors[order, 0].diff() >= 0).all()


def test_a_root_that_is_set_is_not_drawn() -> None:
    keys = row_keys(torch.arange(50))
    do = Intervention.from_do({"hole": 0.8}, GRAPH, 50)
    roots = RootQuantiles(GRAPH, {"hole": FEW})
    assert (draw_factors(make(GRAPH), keys, do, roots)[0][:, 0] == 0.8).all()


def test_a_learned_graph_may_have_other_roots() -> None:
    nscm, keys = make(GRAPH, learned_graph=True), row_keys(torch.arange(20))
    roots = RootQuantiles(GRAPH, {"hole": FEW})
    same = torch.equal(draw_factors(nscm, keys, roots=roots)[0], draw_factors(nscm, keys)[0])
    assert same


def test_what_is_missing_or_was_set_is_no_observation() -> None:
    factors = torch.tensor([[0.2, 0.0, 0.1, 1.0], [torch.nan, 0.5, 0.1, 0.0], [0.9, 0.25, 0.1, 0]])
    by_hand = torch.tensor([[False] * 4, [False] * 4, [True, False, False, False]])
    found = quantiles_of_data(GRAPH, Table(factors, by_hand))
    assert found is not None and set(found.values) == {"hole", "count"}
    torch.testing.assert_close(found.values["hole"].float(), torch.tensor([0.2]))
    torch.testing.assert_close(found.values["count"].float(), torch.tensor([0.0, 0.25, 0.5]))
    assert quantiles_of_data(GRAPH, object()) is None


def test_many_rows_keep_their_distribution() -> None:
    factors = torch.rand(20_000, 4) ** 2
    found = quantiles_of_data(GRAPH, Table(factors))
    assert found is not None
    kept = found.values["hole"]
    level = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(kept.quantile(level), level**2, atol=0.02, rtol=0)


def test_a_description_reads_back() -> None:
    spec = RootQuantiles(GRAPH, {"hole": FEW}).to_spec()
    assert RootQuantiles.from_spec(GRAPH, spec).to_spec() == spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "by the names of factors"),
        ({"flow": [0.1]}, "'flow' is none"),
        ({"lit": [0.0]}, "'lit' is none"),
        ({"none": [0.0]}, "'none' is none"),
        ({"hole": []}, "1 to 512 numbers"),
        ({"hole": [float("nan")]}, "are numbers"),
        ({"hole": [True]}, "are numbers"),
        ({"hole": [0.5, 0.1]}, "rising order"),
    ],
)
def test_a_broken_description_is_refused(spec: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        RootQuantiles.from_spec(GRAPH, spec)
