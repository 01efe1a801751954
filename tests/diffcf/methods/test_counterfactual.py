from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stirring import stir

from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.diffusion.guidance.classifier_free import ClassifierFree
from diffcf.diffusion.guidance.gradient_rules import ConstantGuidance, GaussNewtonGuidance
from diffcf.diffusion.guidance.rule import Guidance
from diffcf.io import SettingsError
from diffcf.methods import load_method, write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.methods.interface import predict_sequence

SHORT = Sampling(steps=4)


def test_one_abduction_serves_any_number_of_interventions(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    engine = model.eval().method(SHORT)
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    abducted = engine.abduct(small_batch["image"], small_batch["factors"])
    assert len(calls) == 4
    answers = [abducted.predict({"light": value}) for value in (0.1, 0.5, 0.9)]
    assert len(calls) == 16
    again = engine.abduct(small_batch["image"], small_batch["factors"]).predict({"light": 0.5})
    torch.testing.assert_close(answers[1].image, again.image)


def test_the_null_intervention_keeps_the_factors_exactly(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    abducted = model.eval().method(SHORT).abduct(small_batch["image"], small_batch["factors"])
    assert torch.equal(abducted.predict({}).factors, small_batch["factors"])


@pytest.mark.parametrize("rule", [None, ConstantGuidance(3.0)], ids=["plain", "guided"])
def test_anchored_the_null_intervention_returns_the_factual(
    model: DiffusionCounterfactuals, small_batch: dict, rule: Guidance | None
) -> None:
    stir(model.generator)
    engine = model.eval().method(Sampling(rule, steps=2, anchored=True))
    world = engine.abduct(small_batch["image"], small_batch["factors"])
    torch.testing.assert_close(world.predict({}).image, small_batch["image"], atol=1e-4, rtol=0)
    loose = model.method(Sampling(rule, steps=2))
    drawn = loose.abduct(small_batch["image"], small_batch["factors"]).predict({}).image
    assert (drawn - small_batch["image"]).abs().max() > 0.01
    assert (world.predict({"light": 0.9}).image - small_batch["image"]).abs().max() > 0.01


@pytest.mark.parametrize("anchored", [False, True])
def test_what_ifs_of_one_abduction_are_those_of_separate_ones(
    model: DiffusionCounterfactuals, small_batch: dict, anchored: bool
) -> None:
    sampling = Sampling(ConstantGuidance(1.0), steps=3, anchored=anchored)
    engine = model.eval().method(sampling)
    world = engine.abduct(small_batch["image"], small_batch["factors"])
    values = torch.linspace(0, 1, 5)
    many = world.select(torch.full((5,), 2)).predict({"light": values})
    one = engine.abduct(small_batch["image"][2:3], small_batch["factors"][2:3])
    for value, image in zip(values, many.image, strict=True):
        alone = one.predict({"light": value}).image[0]
        torch.testing.assert_close(image, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(steps=3, anchored=True, free=ClassifierFree(2.0)),
        Sampling(steps=3, residual=True, free=ClassifierFree(2.0)),
        Sampling(ConstantGuidance(2.0), steps=3, residual=True),
    ],
    ids=["anchored, free", "residual, free", "residual, guided"],
)
def test_free_guidance_too_returns_the_factual_under_no_intervention(
    model: DiffusionCounterfactuals, small_batch: dict, sampling: Sampling
) -> None:
    stir(model.generator)
    image, factors = small_batch["image"], small_batch["factors"]
    world = model.eval().method(sampling).abduct(image, factors)
    torch.testing.assert_close(world.predict({}).image, image, atol=1e-4, rtol=0)
    some = world.select(torch.tensor([1, 1]))
    torch.testing.assert_close(some.predict({}).image, image[[1, 1]], atol=1e-4, rtol=0)
    assert (world.predict({"light": 0.9}).image - image).abs().max() > 0.01


def test_the_more_a_pixel_changes_the_less_of_the_factual_is_given_back(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    stir(model.generator)
    image, factors = small_batch["image"], small_batch["factors"]
    plain, back = (
        model.eval().method(Sampling(steps=2, residual=given)).abduct(image, factors)
        for given in (False, True)
    )
    do = {"light": 0.9, "angle": 0.1}
    own, drawn = plain.predict({}).image, plain.predict(do).image
    lost = (image - own).abs().amax(dim=1)
    share = (back.predict(do).image - drawn).abs().amax(dim=1) / lost.clamp_min(1e-6)
    change = (drawn - own).abs().amax(dim=1)
    seen = lost > 0.02
    order = change[seen].argsort()
    tenth = len(order) // 10
    least, most = (share[seen][some].mean() for some in (order[:tenth], order[-tenth:]))
    assert 0.95 < least <= 1.001 and most < least


def test_a_generator_that_was_always_conditioned_is_not_asked_for_more(
    graph: CausalGraph, tmp_path: Path
) -> None:
    always = DiffusionCounterfactuals(graph, all_dropout=0.0)
    always.method(Sampling(anchored=True, free=ClassifierFree(2.0, from_factual=True)))
    write_weights(always, Sampling(), tmp_path / "weights.safetensors")
    for model in (always, load_method(tmp_path / "weights.safetensors")):
        for asked in (Sampling(conditional=False), Sampling(free=ClassifierFree(2.0))):
            with pytest.raises(SettingsError, match="never trained without its condition"):
                model.method(asked)


def test_impossible_sampling_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="anchored to false"):
        Sampling(anchored=True, free=ClassifierFree(2.0, kept=1.0))
    for wrong in ({"anchored": True}, {"free": ClassifierFree(2.0, kept=1.0)}):
        with pytest.raises(ValueError, match="residual to false"):
            Sampling(residual=True, **wrong)
    with pytest.raises(ValueError, match="order 1 or 2, not 3"):
        Sampling(order=3)


def test_roots_and_non_descendants_never_move(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    factors = small_batch["factors"]
    abducted = model.eval().method(SHORT).abduct(small_batch["image"], factors)
    leaf = abducted.predict({"shadow_length": 0.9}).factors
    assert torch.equal(leaf[:, [0, 1, 3]], factors[:, [0, 1, 3]])
    root = abducted.predict({"light": 0.9, "angle": 0.1}).factors
    torch.testing.assert_close(root[:, :2], torch.tensor([[0.1, 0.9]]).expand(8, -1))


def test_every_sample_may_have_its_own_value_and_its_own_factor(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    engine, factors = model.eval().method(SHORT), small_batch["factors"]
    abducted = engine.abduct(small_batch["image"], factors)
    values = torch.linspace(0, 1, 8)
    torch.testing.assert_close(abducted.predict({"angle": values}).factors[:, 0], values)
    mask = torch.zeros(8, 4, dtype=torch.bool)
    mask[torch.arange(8), torch.arange(8) % 4] = True
    answer = abducted.predict(Intervention(torch.full((8, 4), 0.5), mask))
    assert (answer.factors[mask] == 0.5).all()


def test_a_sequence_holds_what_was_set_and_draws_on_the_last_image(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    engine = model.eval().method(SHORT)
    world = engine.abduct(small_batch["image"], small_batch["factors"])
    dos = [{"shadow_length": 0.8}, {"angle": 0.3}, {"shadow_length": 0.1}]
    steps = [world.intervention(do) for do in dos]
    answers = predict_sequence(world, steps)
    assert (answers[1].factors[:, 2] == 0.8).all(), "what was set stays set"
    assert (answers[2].factors[:, 2] == 0.1).all(), "until it is set anew"
    torch.testing.assert_close(answers[0].image, world.predict(dos[0]).image)


def test_guidance_leaves_a_trace_and_needs_no_grad_mode_of_the_caller(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    engine = model.eval().method(Sampling(GaussNewtonGuidance(), steps=4))
    with torch.no_grad():
        answer = engine.abduct(small_batch["image"]).predict({"light": 0.4})
    assert len(answer.trace) == 4
    assert not answer.image.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_bad_images_are_named(model: DiffusionCounterfactuals, small_batch: dict) -> None:
    engine = model.eval().method(SHORT)
    broken = small_batch["image"].clone()
    broken[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="Image 3 of the batch has NaN or infinite"):
        engine.abduct(broken)
    with pytest.raises(ValueError, match=r"\[B, C, H, W\], got shape \(3, 32, 32\)"):
        engine.abduct(broken[0])


def test_without_mechanisms_only_what_is_set_changes(
    model: DiffusionCounterfactuals, small_batch: dict
) -> None:
    engine = model.eval().method(Sampling(steps=2, mechanisms=False))
    factors = small_batch["factors"]
    answer = engine.abduct(small_batch["image"], factors).predict({"angle": 0.9})
    assert (answer.factors[:, 0] == 0.9).all()
    assert torch.equal(answer.factors[:, 1:], factors[:, 1:])
