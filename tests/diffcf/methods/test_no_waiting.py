"""No step of training or of drawing makes the host wait for the device.

On the device "meta" nothing is computed: whatever needs a value there fails, and whatever would be
copied in step with the device is counted.
"""

from __future__ import annotations

import pytest
import torch

from diffcf.causal import CausalGraph, Factor, Tie, Ties
from diffcf.commands.speed.dispatch import Dispatched, answer_on_meta, step_on_meta
from diffcf.diffusion import (
    ClassifierFree,
    ConstantGuidance,
    GaussNewtonGuidance,
    Guidance,
    LineSearchGuidance,
    PolyakGuidance,
    VarianceBalancedGuidance,
)
from diffcf.methods import DiffusionCounterfactuals, Sampling
from diffcf.methods.hints import Region, regions, told_where_written, unchanged
from diffcf.networks import LocalPosteriorProjector, NetworkSpec, RegionMixer, UNet, network_spec

KINDS = [
    Factor("size"),
    Factor("shape", "categorical", categories=("cube", "ball", "cone")),
    Factor("lit", "binary"),
    Factor("shadow"),
]
EDGES = [("size", "shadow"), ("lit", "shadow"), ("shape", "lit")]


def _model(muon: dict[str, float] | None = None) -> DiffusionCounterfactuals:
    generator = {"channels": [8, 16], "condition": 16, "broadcast": 8, "style": 2}
    specs: list[NetworkSpec] = [network_spec(UNet), network_spec(LocalPosteriorProjector)]
    specs[0]["init_args"] |= generator
    specs[1]["init_args"] |= {"channels": 8}
    graph = CausalGraph(KINDS, EDGES)
    return DiffusionCounterfactuals(graph, *specs, mixing=RegionMixer(), muon=muon)


@pytest.mark.parametrize("muon", [None, {"generator": 0.01, "projector": 0.004}])
def test_a_training_step_waits_for_nothing(muon: dict[str, float] | None) -> None:
    seen = step_on_meta(_model(muon), torch.zeros(8, 3, 32, 32), torch.zeros(8, 4))
    assert seen.total > 500 and not seen.waits


def test_muon_asks_for_matrices_of_one_size_at_once() -> None:
    image, factors = torch.zeros(8, 3, 32, 32), torch.zeros(8, 4)
    plain, muon = (
        step_on_meta(_model(rates), image, factors) for rates in (None, {"generator": 0.01})
    )
    model = _model({"generator": 0.01})
    matrices = sum(p.ndim > 1 for p in model.generator.parameters())
    assert muon.launches - plain.launches < 10 * matrices


RULES = [
    ConstantGuidance(),
    VarianceBalancedGuidance(),
    LineSearchGuidance(),
    PolyakGuidance(),
    GaussNewtonGuidance(),
]


@pytest.mark.parametrize(
    ("guidance", "observed"), [(rule, False) for rule in RULES] + [(RULES[0], True)]
)
def test_a_counterfactual_waits_for_nothing(guidance: Guidance, observed: bool) -> None:
    factors = torch.zeros(3, 4) if observed else None
    sampling = Sampling(guidance, steps=2, anchored=True)
    do = {"size": 0.3, "shape": "ball"}
    seen = answer_on_meta(_model(), sampling, torch.zeros(3, 3, 32, 32), do, factors)
    assert seen.total > 500 and not seen.waits


def test_nor_do_classifier_free_guidance_and_second_order() -> None:
    sampling = Sampling(steps=2, order=2, free=ClassifierFree(1.5, kept=1.0))
    seen = answer_on_meta(_model(), sampling, torch.zeros(3, 3, 32, 32), {"lit": 1.0})
    assert not seen.waits


def test_nor_does_a_generator_that_is_told_where_factors_are_written() -> None:
    graph = CausalGraph([Factor("floor"), Factor("light")])
    ties = Ties(graph, [Tie("floor", "light", ((0.0, 0.0), (1.0, 1.0)))])
    halves = torch.zeros(2, 2, 4, 4)
    halves[:, 0, :2], halves[:, 1, 2:] = 1.0, 1.0
    parts = [Region(part.told, part.weight.to("meta")) for part in regions(halves)]
    x_t, t, factors = (torch.zeros(*s, device="meta") for s in [(2, 1, 4, 4), (2,), (2, 2)])

    def generator(x_t, t, factors=None, mask=None):
        return x_t + torch.where(mask, factors, 0.0).sum(dim=1)[:, None, None, None]

    with Dispatched("meta") as seen:
        told_where_written(generator, parts, ties)(x_t, t, factors)
        unchanged(parts, factors, factors)
    assert seen.total and not seen.waits


def test_waiting_is_noticed() -> None:
    values, mask = torch.rand(4), torch.tensor([True, False, True, True])
    with Dispatched() as seen:
        values.sum().item()
        values[mask]
        torch.zeros(2).to("meta")
        torch.zeros(2).to("meta", non_blocking=True)
    assert seen.waits.total() == 3
