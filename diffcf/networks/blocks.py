"""What the networks are built of: Fourier features, residual blocks, and an encoder of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.io import SettingsError

GRID = 4  # places a side that an image's vector is read off


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


def time_embedding(width: int, frequencies: int) -> nn.Sequential:
    """``[B]`` times → ``[B, width]``."""
    fourier = FourierFeatures(frequencies)
    return nn.Sequential(fourier, nn.Linear(fourier.width, width), nn.SiLU())


class ResBlock(nn.Module):
    """GroupNorm, SiLU, 3×3 convolution, twice; the condition scales and shifts in between (FiLM).

    The condition is ``[B, condition]``. A 1×1 skip joins the two widths when they differ.
    """

    def __init__(self, channels_in: int, channels_out: int, condition: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(math.gcd(channels_in, 8), channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels_out)
        self.norm2 = nn.GroupNorm(math.gcd(channels_out, 8), channels_out)
        self.conv2 = zero_init(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        self.act = nn.SiLU()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(self.act(self.norm1(h)))
        out = self.norm2(out) * (1 + scale) + shift
        return self.skip(h) + self.conv2(self.act(out))


class Level(nn.Module):
    """Residual blocks at one resolution, halving it before them or doubling it after them."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        condition: int,
        blocks: int,
        shrink: bool = False,
        grow: bool = False,
    ) -> None:
        super().__init__()
        halve = nn.Conv2d(channels_in, channels_in, 3, stride=2, padding=1) if shrink else None
        self.shrink = halve or nn.Identity()
        widths = pairwise([channels_in] + [channels_out] * blocks)
        self.blocks = nn.ModuleList(ResBlock(before, after, condition) for before, after in widths)
        # A convolution at the low resolution, then unfolding: a quarter of the usual order's cost.
        unfold = [nn.Conv2d(channels_out, 4 * channels_out, 1), nn.PixelShuffle(2)]
        self.grow = nn.Sequential(*unfold) if grow else nn.Identity()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        h = self.shrink(h)
        for block in self.blocks:
            h = block(h, condition)
        return self.grow(h)


class ImageEncoder(nn.Module):
    """Images ``[B, C, H, W]``, noisy ones with their times, → vectors ``[B, outputs]``.

    ``condition`` is the width of the embedding of t; the rest is as in
    :class:`diffcf.networks.unet.UNet`, but that the levels only go down.
    """

    def __init__(
        self,
        outputs: int,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
        condition: int = 64,
        frequencies: int = 4,
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2 ** (len(channels) - 1)
        self.image_channels = image_channels
        self.embed = time_embedding(condition, frequencies)
        self.stem = nn.Conv2d(image_channels * patch**2 + 2, channels[0], 3, padding=1)
        levels = [Level(channels[0], channels[0], condition, blocks)]
        levels += [Level(a, b, condition, blocks, shrink=True) for a, b in pairwise(channels)]
        self.levels = nn.ModuleList(levels)
        self.norm = nn.GroupNorm(8, channels[-1])
        self.head = nn.Linear(channels[-1] * GRID**2, outputs)

    def forward(self, image: Tensor, t: Tensor | None = None) -> Tensor:
        """``t`` ``[B]`` in [0, 1]; None for clean images.

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        check_sides(image.shape[-2:], self.stride, "The encoder")
        check_channels(image, self.image_channels, "The encoder")
        h = self.stem(append_coordinates(F.pixel_unshuffle(image, self.patch)))
        condition = self.embed(image.new_zeros(len(image)) if t is None else t)
        for level in self.levels:
            h = level(h, condition)
        # A fixed grid: where things are stays readable, whatever the size of the image.
        h = F.adaptive_avg_pool2d(F.silu(self.norm(h)), GRID)
        return self.head(torch.flatten(h, 1)).float()


def append_coordinates(x: Tensor) -> Tensor:
    """Add two channels: the column and row of each pixel in [-1, 1]."""
    sides = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return torch.cat([x, torch.stack([columns, rows]).expand(len(x), -1, -1, -1)], dim=1)


def check_sides(
    sides: Sequence[int],
    stride: int,
    network: str,
    remedy: str = "image_size, patch or the number of levels",
) -> None:
    """Raises ValueError, naming the ``network``, unless both sides are multiples of ``stride``."""
    if any(side % stride for side in sides):
        wanted = f"image sides that are multiples of {stride}"
        raise SettingsError(f"{network} takes {wanted}, got {tuple(sides)}: change {remedy}.")


def check_channels(image: Tensor, channels: int, network: str) -> None:
    """Raises SettingsError, naming the ``network``, unless images ``[B, C, H, W]`` have them."""
    if image.shape[1] != channels:
        raise SettingsError(
            f"{network} takes images of {channels} channels, got {image.shape[1]}: give all "
            "networks the image_channels of the data."
        )


def zero_init(layer: nn.Module) -> nn.Module:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
