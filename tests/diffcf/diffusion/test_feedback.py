"""The condition is corrected by what is read on the way; a null intervention stays exact."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from stirring import stir
from torch import Tensor, nn

from diffcf.causal import NSCM, CausalGraph, Factor, Intervention
from diffcf.causal.posterior import FactorPosterior
from diffcf.diffusion import Feedback, Posterior
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualEngine, DiffusionCounterfactuals, Sampling

SAMPLING = Sampling(steps=3, anchored=True, feedback=Feedback(1.0))


class Drawing(nn.Module):
    """v moves every pixel by ``share`` of what the factor told says."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(
        self, x_t: Tensor, t: Tensor, factors: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        return -self.share * factors[:, :1, None, None].expand_as(x_t)


def brightness(x_t: Tensor, t: Tensor) -> Posterior:
    """The mean of an image as its factor, plus a fault that grows with the noise."""
    mean = x_t.flatten(1).mean(dim=1, keepdim=True) + 0.3 * t[:, None]
    return FactorPosterior(mean, torch.full_like(mean, 0.01))


def told_at(rule: Feedback, time: float, read: float) -> Tensor:
    """What a generator is told at a time, with 1 to be shown and ``read`` of the image."""
    target = torch.ones(2, 1)
    if not rule.covers(time):
        return target
    return rule.told(target, torch.full((2, 1), read), torch.tensor([True]))


@pytest.mark.parametrize(
    ("rule", "time", "read", "told"),
    [
        (Feedback(1.0), 0.5, 0.25, 1.75),
        (Feedback(1.0, beyond=0.5), 0.5, 0.25, 1.5),
        (Feedback(1.0), 0.5, 1.7, 1.0),  # a reading cannot be more than there is
        (Feedback(0.0), 0.5, 0.25, 1.0),
        (Feedback(1.0, t_max=0.4), 0.5, 0.25, 1.0),
        (Feedback(1.0, t_min=0.6), 0.5, 0.25, 1.0),
    ],
)
def test_what_is_missing_is_told_in_addition(
    rule: Feedback, time: float, read: float, told: float
) -> None:
    torch.testing.assert_close(told_at(rule, time, read), torch.full((2, 1), told))


def engine(sampling: Sampling, share: float = 0.5) -> CounterfactualEngine:
    graph = CausalGraph([Factor("bright", "binary")])
    return CounterfactualEngine(Drawing(share), brightness, NSCM(graph).eval(), sampling)


def test_a_generator_that_does_too_little_is_asked_for_more() -> None:
    image, factors = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1)
    answers = {
        name: engine(sampling).abduct(image, factors).predict({"bright": 1.0}).image.mean()
        for name, sampling in {
            "fed back": SAMPLING,
            "plain": replace(SAMPLING, feedback=None),
            "gain 0": replace(SAMPLING, feedback=Feedback(0.0)),
            "at no time": replace(SAMPLING, feedback=Feedback(1.0, t_max=0.0)),
            "late": replace(SAMPLING, feedback=Feedback(1.0, t_max=0.5)),
        }.items()
    }
    assert answers["fed back"] > answers["plain"] + 0.05
    torch.testing.assert_close(answers["gain 0"], answers["plain"])
    assert torch.equal(answers["at no time"], answers["plain"])
    assert answers["plain"] < answers["late"] < answers["fed back"]


def test_under_no_intervention_nothing_is_corrected(model, small_batch: dict) -> None:
    stir(model.eval())
    image, factors = small_batch["image"], small_batch["factors"]
    world = model.method(SAMPLING).abduct(image, factors)
    torch.testing.assert_close(world.predict({}).image, image, atol=1e-4, rtol=0)
    plain = model.method(replace(SAMPLING, feedback=None)).abduct(image, factors)
    images = [w.predict({"light": 0.9}).image for w in (world, plain)]
    assert not torch.allclose(*images, atol=1e-4)


def test_categories_are_told_as_they_are() -> None:
    graph = CausalGraph([Factor("shape", "categorical", categories=("cube", "ball", "cone"))])
    small = {"channels": [8, 16], "condition": 16, "attention_heads": 2}
    model = DiffusionCounterfactuals(
        graph, generator={"class_path": "diffcf.networks.UNet", "init_args": small}
    ).eval()
    stir(model)
    image, do = torch.rand(2, 3, 16, 16), Intervention.none(torch.zeros(2, 1))
    do = replace(do, values=torch.ones(2, 1), mask=torch.ones(2, 1, dtype=torch.bool))
    images = [
        model.method(s).abduct(image, torch.zeros(2, 1)).predict(do).image
        for s in (SAMPLING, replace(SAMPLING, feedback=None))
    ]
    torch.testing.assert_close(*images)


def test_impossible_feedback_gets_a_sentence() -> None:
    for wrong in ({"gain": -1.0}, {"beyond": -0.1}, {"gain": math.nan}, {"beyond": math.inf}):
        with pytest.raises(SettingsError, match="finite numbers from 0 on"):
            Feedback(**wrong)
    with pytest.raises(SettingsError, match="t_min <= t_max"):
        Feedback(t_min=0.5, t_max=0.2)
    with pytest.raises(SettingsError, match="leave feedback out"):
        Sampling(feedback=Feedback())
    with pytest.raises(SettingsError, match="has none"):
        CounterfactualEngine(Drawing(1.0), None, engine(Sampling()).nscm, SAMPLING)
