"""Rates of effects: the causal model's beside those of the data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.causal import NSCM, CausalGraph, Factor
from diffcf.evaluation import effect_rates

GRAPH = CausalGraph(
    [Factor(name, "binary") for name in ("smile", "male", "open")] + [Factor("age")],
    [("smile", "open"), ("male", "open"), ("smile", "age")],
)


def people(count: int) -> Tensor:
    """A mouth is open in .9 of smiles, in .2 of other women and in .4 of other men."""
    torch.manual_seed(0)
    smile, male = (torch.rand(count) < 0.5).float(), (torch.rand(count) < 0.3).float()
    chance = torch.where(smile > 0, 0.9, 0.2 + 0.2 * male)
    return torch.stack([smile, male, (torch.rand(count) < chance).float(), torch.rand(count)], 1)


class Known:
    """The true mechanism of ``open``, which ignores what was abducted."""

    graph = GRAPH

    def abduct(self, factors: Tensor, keys: Tensor | None = None) -> Tensor:
        return factors

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        result = torch.where(mask, values, factors)
        result[:, 2] = torch.where(result[:, 0] > 0, 0.9, 0.2 + 0.2 * result[:, 1])
        return result


def test_a_known_mechanism_has_the_rates_of_the_data() -> None:
    rates = effect_rates(Known(), GRAPH, people(20_000), people(2_000))  # type: ignore[arg-type]
    assert rates["data_rate/smile=1/open"] == pytest.approx(0.9, abs=0.02)
    assert rates["data_rate/smile=0/open"] == pytest.approx(0.26, abs=0.02)
    assert rates["rate_gap"] < 0.02
    assert {name.split("/", 1)[1] for name in rates if "/" in name} == {
        f"{cause}={value}/open" for cause in ("smile", "male") for value in (0, 1)
    }, "age is no binary effect"


def test_a_model_that_lets_nothing_follow_is_told_apart() -> None:
    class Nothing(Known):
        def predict(
            self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor
        ) -> Tensor:
            return torch.where(mask, values, factors)

    factors = people(2_000)
    rates = effect_rates(Nothing(), GRAPH, people(20_000), factors)  # type: ignore[arg-type]
    assert rates["model_rate/smile=1/open"] == pytest.approx(float(factors[:, 2].mean()))
    assert rates["rate_gap"] > 0.1


def test_an_effect_by_two_ways_is_left_out() -> None:
    graph = CausalGraph(GRAPH.factors[:3], [("smile", "male"), ("smile", "open"), ("male", "open")])
    factors = people(500)[:, :3]
    rates = effect_rates(NSCM(graph).eval(), graph, factors, factors)
    assert "model_rate/smile=1/male" in rates and "model_rate/male=1/open" in rates
    assert "model_rate/smile=1/open" not in rates, "what male would be, only a model says"


def test_combinations_that_hardly_occur_have_no_rate() -> None:
    observed = people(2_000)
    observed = observed[(observed[:, 0] < 0.5) | (observed[:, 1] < 0.5)]  # no smiling man
    rates = effect_rates(NSCM(GRAPH).eval(), GRAPH, observed, people(100))
    assert "model_rate/smile=0/open" in rates and "model_rate/smile=1/open" not in rates
    assert effect_rates(NSCM(GRAPH).eval(), GRAPH, observed[:5], people(100)) == {}
