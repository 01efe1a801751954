from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from latent_checks import (
    MIXED,
    SAMPLING,
    check_every_kind,
    check_every_parameter_learns,
    check_null_intervention,
    check_only_effects_move,
    check_round_trip,
    mixed_batch,
)
from stirring import stir

from diffcf.causal.graph import CausalGraph
from diffcf.diffusion.guidance.gradient_rules import ConstantGuidance
from diffcf.methods.engine import Sampling
from diffcf.methods.peers.causal_diffae import CausalDiffAE
from diffcf.methods.peers.causal_latents import LatentMechanisms
from diffcf.methods.peers.latent_networks import LatentEncoder, LatentUNet


def small(graph: CausalGraph) -> CausalDiffAE:
    return CausalDiffAE(
        graph,
        encoder=partial(LatentEncoder, channels=[8, 16]),
        mechanisms=partial(LatentMechanisms, hidden=[8]),
        generator=partial(LatentUNet, channels=[8, 16], condition=16, attention_heads=2),
        dimensions=2,
    )


@pytest.fixture
def diffae(graph: CausalGraph) -> CausalDiffAE:
    model = small(graph)
    stir(model)
    return model.eval()


def test_doing_nothing_decodes_what_was_encoded(diffae: CausalDiffAE, small_batch: dict) -> None:
    check_null_intervention(diffae, small_batch["image"], small_batch["factors"])


def test_more_steps_give_the_image_back(diffae: CausalDiffAE, small_batch: dict) -> None:
    image = small_batch["image"]
    few, many = (
        (diffae.method(Sampling(steps=n)).abduct(image).predict({}).image - image).abs().mean()
        for n in (3, 60)
    )
    assert many < few


def test_only_effects_move(diffae: CausalDiffAE, small_batch: dict) -> None:
    check_only_effects_move(diffae, small_batch["image"], small_batch["factors"])


def test_a_checkpoint_answers_alike(
    diffae: CausalDiffAE, small_batch: dict, tmp_path: Path
) -> None:
    check_round_trip(diffae, small_batch["image"], tmp_path)


def test_every_kind_of_factor() -> None:
    check_every_kind(small(MIXED), *mixed_batch())


def test_every_parameter_learns(graph: CausalGraph, small_batch: dict) -> None:
    check_every_parameter_learns(small(graph), small_batch["image"], small_batch["factors"])


def test_the_third_term_moves_the_mechanisms_alone(graph: CausalGraph, small_batch: dict) -> None:
    model = small(graph)
    model.losses(small_batch["image"], small_batch["factors"])["mechanisms"].backward()
    learning = {
        n for n, net in model.networks() if any(p.grad is not None for p in net.parameters())
    }
    assert learning == {"mechanisms"}


def test_the_stochastic_code_is_the_noise_under_its_own_latents(
    diffae: CausalDiffAE, small_batch: dict
) -> None:
    image = small_batch["image"][:2]
    world = diffae.method(SAMPLING).abduct(image)
    code = world.stochastic_code
    other = diffae.stochastic_code(image, world.latents.flip(0), SAMPLING)
    assert code.shape == image.shape and not torch.allclose(code, other)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(guidance=ConstantGuidance(1.0)),
        Sampling(conditional=False),
        Sampling(mechanisms=False),
    ],
)
def test_sampling_it_does_not_know_is_refused(diffae: CausalDiffAE, sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="knows only 'steps' and 't_max'"):
        diffae.method(sampling)
