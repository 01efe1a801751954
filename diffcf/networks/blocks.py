"""The bricks that the generator and the projector share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """``[...] -> [..., 2 * frequencies + 1]``: a scalar in about [0, 1], its sines and cosines.

    The frequencies are π, 2π, 4π, ...: fine enough to place an edge at a fraction of a pixel.
    """

    bands: Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.width = 2 * frequencies + 1
        bands = math.pi * 2.0 ** torch.arange(frequencies)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        phase = value.unsqueeze(-1) * self.bands
        return torch.cat([value.unsqueeze(-1), phase.sin(), phase.cos()], dim=-1)


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3×3 convolution, twice; the condition scales and shifts in between (FiLM).

    Args:
        channels_in, channels_out: widths; a 1×1 skip joins them when they differ.
        condition: width of the conditioning vector ``[B, condition]``.
    """

    def __init__(self, channels_in: int, channels_out: int, condition: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(channels_in), channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels_out)
        self.norm2 = nn.GroupNorm(_groups(channels_out), channels_out)
        self.conv2 = zero_init(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        self.act = nn.SiLU()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(self.act(self.norm1(h)))
        out = self.norm2(out) * (1 + scale) + shift
        return self.skip(h) + self.conv2(self.act(out))


def append_coordinates(x: Tensor) -> Tensor:
    """Add two channels that tell each pixel its column and row in [-1, 1]."""
    b, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype).view(1, 1, h, 1)
    columns = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).view(1, 1, 1, w)
    return torch.cat([x, columns.expand(b, 1, h, w), rows.expand(b, 1, h, w)], dim=1)


def check_sides(sides: Sequence[int], stride: int, network: str) -> None:
    """Raises ValueError, naming the ``network``, unless both sides are multiples of ``stride``."""
    if any(side % stride for side in sides):
        raise ValueError(
            f"{network} takes image sides that are multiples of {stride}, got {tuple(sides)}: "
            "change image_size, patch or the number of levels."
        )


def zero_init(layer: nn.Module) -> nn.Module:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _groups(channels: int) -> int:
    return math.gcd(channels, 8)
