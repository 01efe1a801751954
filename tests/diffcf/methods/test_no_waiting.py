"""No step of training or of drawing makes the host wait for the device.

On the device "meta" nothing is computed: whatever needs a value there fails, and whatever would be
copied in step with the device is counted.
"""

from __future__ import annotations

import pytest
import torch

from diffcf.causal import CausalGraph, Factor, Intervention
from diffcf.commands.speed.dispatch import Dispatched
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
from diffcf.networks import LocalPosteriorProjector, NetworkSpec, RegionMixer, UNet, network_spec

KINDS = [
    Factor("size"),
    Factor("shape", "categorical", categories=("cube", "ball", "cone")),
    Factor("lit", "binary"),
    Factor("shadow"),
]
EDGES = [("size", "shadow"), ("lit", "shadow"), ("shape", "lit")]


def _model() -> DiffusionCounterfactuals:
    generator = {"channels": [8, 16], "condition": 16, "broadcast": 8, "style": 2}
    specs: list[NetworkSpec] = [network_spec(UNet), network_spec(LocalPosteriorProjector)]
    specs[0]["init_args"] |= generator
    specs[1]["init_args"] |= {"channels": 8}
    graph = CausalGraph(KINDS, EDGES)
    return DiffusionCounterfactuals(graph, *specs, mixing=RegionMixer()).to("meta")


def test_a_training_step_waits_for_nothing() -> None:
    model = _model().train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=False, foreach=True)
    image = torch.zeros(8, 3, 32, 32, device="meta")
    factors = torch.zeros(8, 4, device="meta")
    with Dispatched("meta") as seen:
        terms = model.losses(image, factors)
        assert terms.keys() >= {"generator", "projector", "nscm", "mixed"}
        model._watch.see(terms, step=0)
        model.total(terms).backward()
        model.on_before_optimizer_step(optimizer)
    assert seen.total > 500 and not seen.waits


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
    model = _model().eval()
    method = model.method(Sampling(guidance, steps=2, anchored=True))
    image = torch.zeros(3, 3, 32, 32, device="meta")
    factors = torch.zeros(3, 4, device="meta") if observed else None
    with Dispatched("meta") as seen:
        answer = method.abduct(image, factors).predict({"size": 0.3, "shape": "ball"})
    assert answer.image.device.type == "meta"
    assert seen.total > 500 and not seen.waits


def test_nor_do_classifier_free_guidance_and_second_order() -> None:
    sampling = Sampling(steps=2, order=2, free=ClassifierFree(1.5, kept=1.0))
    image, factors = torch.zeros(3, 3, 32, 32, device="meta"), torch.zeros(3, 4, device="meta")
    method = _model().eval().method(sampling)
    with Dispatched("meta") as seen:
        world = method.abduct(image, factors)
        world.predict(Intervention(factors, factors > 0))
    assert not seen.waits


def test_waiting_is_noticed() -> None:
    values, mask = torch.rand(4), torch.tensor([True, False, True, True])
    with Dispatched() as seen:
        values.sum().item()
        values[mask]
        torch.zeros(2).to("meta")
        torch.zeros(2).to("meta", non_blocking=True)
    assert seen.waits.total() == 3
