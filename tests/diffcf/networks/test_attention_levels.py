"""Self-attention at any level of the U-Net."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from stirring import stir

from diffcf.io import SettingsError
from diffcf.networks import UNet

SMALL = partial(UNet, channels=[8, 16], condition=16, attention_heads=2)


def _influence(levels: list[int], graph) -> float:
    """How much the far corner of the output heeds the first pixels, by convolutions alone."""
    unet = SMALL(graph, channels=[8], attention_levels=levels).eval()
    stir(unet)
    unet.middle = _Nothing()
    for module in list(unet.modules()):  # norms join all places, too
        for name, child in module.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    unet(x, torch.tensor([0.5]), torch.full((1, 4), 0.5))[0, :, -4:, -4:].sum().backward()
    return float(x.grad[0, :, :4, :4].abs().sum())


class _Nothing(torch.nn.Module):
    def forward(self, h: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return h


def test_places_see_each_other_at_the_levels_that_are_named(graph) -> None:
    assert _influence([], graph) == 0.0 and _influence([0], graph) > 0.0


def test_levels_that_are_not_there_get_a_sentence(graph) -> None:
    with pytest.raises(SettingsError, match=r"attention_levels \[2\] do not exist"):
        SMALL(graph, attention_levels=[0, 2])
    with pytest.raises(SettingsError, match="need attention_heads"):
        UNet(graph, attention_heads=0, attention_levels=[0])


def test_networks_without_them_keep_the_names_of_their_weights(graph) -> None:
    assert not [name for name in SMALL(graph).state_dict() if name.startswith("attend")]
