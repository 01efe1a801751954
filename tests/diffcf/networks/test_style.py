"""The style code: how pictures are drawn, learned from another picture drawn alike."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph, Factor
from diffcf.diffusion import style_of, velocity_loss, with_style
from diffcf.io import SettingsError
from diffcf.methods import DiffusionCounterfactuals, Sampling
from diffcf.methods.peers.latent_networks import LatentUNet
from diffcf.networks import LocalPosteriorProjector, UNet

GRAPH = CausalGraph([Factor("light")], [])
SMALL = {"channels": [8, 16], "condition": 16, "broadcast": 8, "attention_heads": 2}


def test_code_is_bounded_and_forgets_where_things_are() -> None:
    network = UNet(GRAPH, style=3, **SMALL)
    image = torch.rand(4, 3, 32, 32) * 2 - 1
    code = style_of(network, image)
    assert code is not None and code.shape == (4, 3) and code.abs().max() < 1
    shifted = torch.zeros(2, 3, 32, 32)
    shifted[0, :, 8:16, 8:16] = shifted[1, :, 12:20, 16:24] = 1.0
    near, far = network.encode_style(shifted)
    torch.testing.assert_close(near, far)


def test_without_one_the_generator_is_called_as_it_is() -> None:
    network = UNet(GRAPH, **SMALL)
    assert style_of(network, torch.zeros(1, 3, 32, 32)) is None
    assert with_style(network, None) is network


def test_copies_of_a_batch_share_their_style() -> None:
    seen: list[Tensor] = []

    def generator(x_t: Tensor, t: Tensor, factors: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        seen.append(style)
        return x_t

    style = torch.rand(2, 3)
    with_style(generator, style)(torch.zeros(6, 1, 8, 8), torch.zeros(6))
    torch.testing.assert_close(seen[0], style.repeat(3, 1))


class Brightness(nn.Module):
    """Draws nothing; its style is the picture's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def encode_style(self, reference: Tensor) -> Tensor:
        return reference.mean(dim=(1, 2, 3))[:, None]

    def residual_scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t).view(-1, 1, 1, 1)

    def forward(self, x_t: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        self.seen.append(rest[2])
        return torch.zeros_like(x_t)


def test_the_reference_is_another_image_in_training_and_the_factual_in_an_answer() -> None:
    image = torch.linspace(-0.9, 0.9, 4).view(4, 1, 1, 1).expand(-1, 3, 8, 8)
    network = Brightness()
    velocity_loss(network, image, torch.randn_like(image), torch.rand(4), torch.zeros(4, 1), None)
    own = network.encode_style(image)
    torch.testing.assert_close(network.seen[0].sort(dim=0).values, own.sort(dim=0).values)
    assert ((network.seen[0] - own).abs() > 0.1).all()
    model = DiffusionCounterfactuals(GRAPH, partial(UNet, **SMALL), LocalPosteriorProjector)
    engine = model.eval().method(Sampling(steps=1))
    engine.generator = network
    network.seen.clear()
    world = engine.abduct(image, torch.rand(4, 1))
    world.predict({"light": 0.5})
    world.select(torch.tensor([2, 2])).predict({"light": 0.5})
    *both, repeated = network.seen
    for style in both:
        torch.testing.assert_close(style, own)
    torch.testing.assert_close(repeated, own[[2, 2]])


def test_a_code_changes_what_is_drawn() -> None:
    torch.manual_seed(0)
    network = UNet(GRAPH, style=2, **SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, t, factors = torch.randn(2, 3, 32, 32), torch.rand(2), torch.rand(2, 1)
    one, other = (with_style(network, torch.full((2, 2), code))(x, t, factors) for code in (-1, 1))
    assert not torch.allclose(one, other, atol=1e-5)


def test_latents_say_how_to_draw_already() -> None:
    with pytest.raises(SettingsError, match="has no style code"):
        LatentUNet(GRAPH, style=2)


def test_a_world_keeps_its_style_when_its_parts_are_replaced() -> None:
    model = DiffusionCounterfactuals(
        GRAPH, partial(UNet, style=2, **SMALL), LocalPosteriorProjector
    )
    world = model.eval().method(Sampling(steps=1)).abduct(torch.zeros(1, 3, 32, 32))
    assert replace(world, factors=world.factors).drawn.style is world.drawn.style is not None
