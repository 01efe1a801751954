"""The tiny autoencoders of TAESD and TAEF, by their files of weights.

Plain stacks of 3 × 3 convolutions, distilled from the autoencoders of large image generators: 8
times smaller sides, 4 to 32 channels. Architecture: https://github.com/madebyollin/taesd (MIT).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.networks.first_stage.interface import load_into, read_state

STAGES = 3  # each halves the sides
BOUND = 3.0  # latents beyond about this are squashed before they are decoded


class TinyAutoencoder(nn.Module):
    """A :class:`diffcf.networks.first_stage.FirstStage` of two plain stacks of convolutions.

    Args:
        graph: not used; every network of diffcf is built for one.
        encoder, decoder: files of weights, ``.pth`` or ``.safetensors``; None starts at random.
        latent_channels: 4 (TAESD), 16 (TAEF1) or 32 (TAEF2).
        pooled: whether the blocks at the lowest resolution have a normalised branch, as in TAEF2.
        image_channels, width: of images and of every layer.

    Raises:
        CheckpointError: for a file that is missing, unreadable or of another architecture.
    """

    stride = 2**STAGES

    def __init__(
        self,
        graph: CausalGraph,
        encoder: str | Path | None = None,
        decoder: str | Path | None = None,
        latent_channels: int = 32,
        pooled: bool = True,
        image_channels: int = 3,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.image_channels, self.latent_channels = image_channels, latent_channels
        down = [_conv(image_channels, width), Block(width)]
        up: list[nn.Module] = [Squash(), _conv(latent_channels, width), nn.ReLU()]
        for stage in range(STAGES):
            lowest = stage == STAGES - 1
            down += [_conv(width, width, stride=2, bias=False)]
            down += [Block(width, pooled and lowest) for _ in range(3)]
            up += [Block(width, pooled and stage == 0) for _ in range(3)]
            up += [nn.Upsample(scale_factor=2), _conv(width, width, bias=False)]
        self.down = nn.Sequential(*down, _conv(width, latent_channels))
        self.up = nn.Sequential(*up, Block(width), _conv(width, image_channels))
        for network, path, what in (
            (self.down, encoder, "Encoder"),
            (self.up, decoder, "Decoder"),
        ):
            if path is not None:
                load_into(network, read_state(path, what), path, what)

    def encode(self, image: Tensor) -> Tensor:
        return self.down((image + 1) / 2)

    def decode(self, latent: Tensor) -> Tensor:
        return self.up(latent) * 2 - 1


def _conv(before: int, after: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=bias)


class Squash(nn.Module):
    """Holds latents within about ±:data:`BOUND`."""

    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(latent / BOUND) * BOUND


class Block(nn.Module):
    """Three convolutions and the input, rectified; ``pooled`` adds a normalised branch first."""

    def __init__(self, width: int, pooled: bool = False) -> None:
        super().__init__()
        layers = (_conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU())
        self.conv = nn.Sequential(*layers, _conv(width, width))
        wide = 4 * width
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False),
                nn.GroupNorm(4, wide),
                nn.ReLU(),
                nn.Conv2d(wide, width, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)
