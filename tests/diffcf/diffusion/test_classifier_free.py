from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stirring import stir
from torch import Tensor, nn

from diffcf.causal import NSCM, CausalGraph, Factor
from diffcf.diffusion import Denoiser, Feedback
from diffcf.diffusion.guidance.classifier_free import ClassifierFree, focused, missing_change
from diffcf.diffusion.process import prediction_from_velocity
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualEngine, Sampling
from diffcf.methods.peers.conditional import ConditionalDiffusion


class Sums(nn.Module):
    """v is the sum of the factors that it is conditioned on, 1, 2 and 4 times."""

    def forward(
        self, x_t: Tensor, t: Tensor, factors: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        mask = torch.ones_like(factors) if mask is None else mask
        total = (factors * mask * torch.tensor([1.0, 2.0, 4.0])).sum(dim=1)
        return total.view(-1, 1, 1, 1).expand_as(x_t)


X, ONES = torch.randn(2, 1, 4, 4), torch.ones(2, 3)
REACHED = torch.tensor([[True, False, False], [True, True, False]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ClassifierFree(1.0), [7.0, 7.0]),
        (ClassifierFree(2.0), [14.0, 14.0]),
        (ClassifierFree(2.0, kept=1.0), [2 * 1 + 6.0, 2 * 3 + 4.0]),
        (ClassifierFree(0.0, kept=3.0), [18.0, 12.0]),
    ],
)
def test_groups_are_guided_by_their_own_weights(
    rule: ClassifierFree, expected: list[float]
) -> None:
    prediction = rule.wrap(Sums(), ONES, REACHED, ONES)(X, 0.3)
    v = torch.tensor(expected).view(2, 1, 1, 1).expand_as(X)
    whole = prediction_from_velocity(v, X, torch.full((2,), 0.3))
    torch.testing.assert_close(prediction.denoised, whole.denoised)
    torch.testing.assert_close(prediction.eps, whole.eps)


@pytest.mark.parametrize(
    ("weight", "time", "expected"), [(1.0, 0.3, 7), (3.0, 0.3, 19), (3.0, 0.9, 7)]
)
def test_guidance_from_the_factual_pushes_what_differs(
    weight: float, time: float, expected: float
) -> None:
    rule = ClassifierFree(weight, from_factual=True, t_max=0.5)
    factual = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3)  # its v is 1, that of ones 7
    prediction = rule.wrap(Sums(), ONES, REACHED, factual)(X, time)
    v = torch.full_like(X, expected)
    whole = prediction_from_velocity(v, X, torch.full((2,), time))
    torch.testing.assert_close(prediction.denoised, whole.denoised)


def test_from_the_factual_the_null_intervention_stays_exact(graph, small_batch: dict) -> None:
    small = {"channels": [8, 16], "condition": 16, "attention_heads": 2}
    spec = {"class_path": "diffcf.networks.unet.UNet", "init_args": small}
    model = ConditionalDiffusion(graph, generator=spec).eval()
    stir(model)
    sampling = Sampling(steps=3, anchored=True, free=ClassifierFree(4.0, from_factual=True))
    image, factors = small_batch["image"], small_batch["factors"]
    world = model.method(sampling).abduct(image, factors)
    torch.testing.assert_close(world.predict({}).image, image, atol=1e-4, rtol=0)
    plain = model.method(Sampling(steps=3, anchored=True)).abduct(image, factors)
    guided, unguided = (w.predict({"light": 0.8}).image for w in (world, plain))
    assert not torch.allclose(guided, unguided, atol=1e-3)


@pytest.mark.parametrize(
    ("least", "missing", "expected"),
    [(1.0, 1.0, 19), (1.0, 0.5, 10), (1.0, 0.0, 7), (2.0, 1.0, 19), (2.0, 0.5, 14.5), (2.0, 0, 13)],
)
def test_an_adaptive_weight_falls_with_what_is_missing(
    least: float, missing: float, expected: float
) -> None:
    rule = ClassifierFree(3.0, from_factual=True, adaptive=True, least=least)
    factual = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3)
    lacks = torch.tensor([missing, 1.0])
    prediction = rule.wrap(Sums(), ONES, REACHED, factual, lacks)(X, 0.3)
    v = torch.stack([torch.full_like(X[0], expected), torch.full_like(X[1], 19)])
    whole = prediction_from_velocity(v, X, torch.full((2,), 0.3))
    torch.testing.assert_close(prediction.denoised, whole.denoised)


@pytest.mark.parametrize(("limit", "expected"), [(100.0, 19), (12.0, 19), (3.0, 10), (0.5, 7.5)])
def test_what_is_added_is_at_most_the_limit(limit: float, expected: float) -> None:
    rule = ClassifierFree(3.0, from_factual=True, limit=limit)
    factual = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])  # nothing changes in the second
    prediction = rule.wrap(Sums(), ONES, REACHED, factual)(X, 0.3)
    v = torch.stack([torch.full_like(X[0], expected), torch.full_like(X[1], 7)])
    whole = prediction_from_velocity(v, X, torch.full((2,), 0.3))
    torch.testing.assert_close(prediction.denoised, whole.denoised)


def test_what_is_missing_is_of_the_factor_that_lacks_most() -> None:
    graph = CausalGraph(
        [
            Factor("light"),
            Factor("smile", "binary"),
            Factor("hair", "categorical", categories=("black", "brown", "red")),
        ]
    )
    factual = torch.tensor([[0.2, 0.0, 0.0]]).expand(5, 3)
    asked = torch.tensor(
        [[0.2, 0.0, 0.0], [0.7, 0.0, 0.0], [0.7, 1.0, 0.0], [0.7, 1.0, 1.0], [0.7, 1.0, 1.0]]
    )
    read = graph.encode(torch.tensor([[0.6, 0.7, 0.0]]).expand(5, 3)).clone()
    read[4] = graph.encode(torch.tensor([[0.9, 1.0, 1.0]]))[0]  # beyond what was asked
    codes = graph.encode(asked), read, graph.encode(factual)
    missing = missing_change(*codes, graph.code_owner)
    torch.testing.assert_close(missing, torch.tensor([0.0, 0.2, 0.3, 1.0, 0.0]))


def test_an_adaptive_weight_goes_by_the_projector_and_keeps_the_null_exact(
    model, small_batch: dict
) -> None:
    stir(model.eval())
    image, factors = small_batch["image"], small_batch["factors"]
    most = ClassifierFree(6.0, from_factual=True)
    images = {}
    for name, free in {
        "adaptive": replace(most, adaptive=True),
        "least 4": replace(most, adaptive=True, least=4.0),
        "most": most,
        "plain": replace(most, weight=1.0),
    }.items():
        world = model.method(Sampling(steps=3, anchored=True, free=free)).abduct(image, factors)
        torch.testing.assert_close(world.predict({}).image, image, atol=1e-4, rtol=0)
        images[name] = world.predict({"light": 0.9}).image
    change = {name: (found - images["plain"]).abs().mean() for name, found in images.items()}
    assert 0 < change["adaptive"] < change["least 4"] < change["most"]


def test_beside_an_adaptive_weight_feedback_corrects_what_stays_only(
    model, small_batch: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Tensor] = []
    engine = model.eval().method(
        Sampling(
            steps=2,
            anchored=True,
            free=ClassifierFree(6.0, from_factual=True, adaptive=True),
            feedback=Feedback(3.0),
        )
    )
    world = engine.abduct(small_batch["image"], small_batch["factors"])
    denoiser = engine.denoiser

    def watched(factors: Tensor, *others: object) -> Denoiser:
        told.append(factors)
        return denoiser(factors, *others)

    monkeypatch.setattr(engine, "denoiser", watched)
    answer = world.predict({"light": 0.9})
    changed = answer.factors != small_batch["factors"]
    for factors in told:
        assert torch.equal(factors[changed], answer.factors[changed])
    assert any((factors[~changed] != answer.factors[~changed]).any() for factors in told)


def test_a_focused_push_stays_where_it_is_strong_and_casts_no_light() -> None:
    push = torch.full((2, 3, 16, 16), 0.3)
    push[..., 4:8, 4:8] += 1.0
    push[..., 12:, 12:] += 0.2
    kept = focused(push, 0.9)
    whole = push - push.mean(dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(kept[..., 5:7, 5:7], whole[..., 5:7, 5:7])
    assert kept[..., 13:, 13:].abs().max() < 0.25 * whole[..., 13:, 13:].abs().max()
    torch.testing.assert_close(focused(push + 1.0, 0.9), kept)
    assert focused(torch.zeros(2, 3, 16, 16), 0.9).abs().max() == 0


def test_impossible_guidance_gets_a_sentence() -> None:
    for wrong in ({"focus": 1.0, "from_factual": True}, {"focus": 0.8}):
        with pytest.raises(SettingsError, match="focus of free is a share"):
            ClassifierFree(2.0, **wrong)
    with pytest.raises(SettingsError, match="leave kept of free out"):
        ClassifierFree(2.0, kept=1.0, from_factual=True)
    with pytest.raises(SettingsError, match="t_min <= t_max"):
        ClassifierFree(2.0, t_min=0.5, t_max=0.2)
    with pytest.raises(SettingsError, match="or adaptive to false"):
        ClassifierFree(2.0, adaptive=True)
    for wrong in ({"least": 3.0, "adaptive": True}, {"least": 0.5}):
        with pytest.raises(SettingsError, match="between 0 and weight, 2"):
            ClassifierFree(2.0, from_factual=True, **wrong)
    for wrong in ({"limit": 0.0, "from_factual": True}, {"limit": 0.2}):
        with pytest.raises(SettingsError, match="limit of free is a number above 0"):
            ClassifierFree(2.0, **wrong)
    adaptive = ClassifierFree(2.0, from_factual=True, adaptive=True)
    with pytest.raises(SettingsError, match="adaptive of free to false"):
        Sampling(free=adaptive)
    with pytest.raises(SettingsError, match="this method has none"):
        CounterfactualEngine(
            Sums(),
            None,
            NSCM(CausalGraph([Factor("light")])),
            Sampling(anchored=True, free=adaptive),
        )


def test_weight_one_is_plain_conditioning(graph, small_batch: dict) -> None:
    small = {"channels": [8, 16], "condition": 16, "attention_heads": 2}
    spec = {"class_path": "diffcf.networks.unet.UNet", "init_args": small}
    model = ConditionalDiffusion(graph, generator=spec).eval()
    stir(model)
    image, factors = small_batch["image"], small_batch["factors"]
    answers = [
        model.method(Sampling(steps=3, free=free)).abduct(image, factors).predict({"light": 0.8})
        for free in (None, ClassifierFree(1.0), ClassifierFree(1.7))
    ]
    torch.testing.assert_close(answers[0].image, answers[1].image, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(answers[0].image, answers[2].image, atol=1e-4)


def test_what_an_intervention_reaches(graph) -> None:
    reach = graph.reach
    assert reach.diagonal().all()
    assert reach[graph.column("light"), graph.column("shadow_length")]
    assert not reach[graph.column("light"), graph.column("angle")]
    assert not reach[graph.column("shadow_length"), graph.column("light")]
