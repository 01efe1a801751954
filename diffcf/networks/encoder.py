"""From an image to a vector: the encoder that the peers share."""

from __future__ import annotations

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.networks.blocks import FourierFeatures, append_coordinates, check_sides
from diffcf.networks.unet import Level

GRID = 4  # places a side that the vector is read off


class ImageEncoder(nn.Module):
    """Images ``[B, C, H, W]``, noisy ones with their times, → vectors ``[B, outputs]``.

    Args:
        outputs: width of the vector.
        image_channels: of the images.
        patch: side of the square of pixels folded into channels.
        channels: width of each level; the resolution halves between levels.
        blocks: residual blocks per level.
        condition: width of the embedding of t.
        frequencies: Fourier frequencies of t.
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
        fourier = FourierFeatures(frequencies)
        self.embed = nn.Sequential(fourier, nn.Linear(fourier.width, condition), nn.SiLU())
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
        p = self.patch
        h = rearrange(image, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        h = self.stem(append_coordinates(h))
        condition = self.embed(image.new_zeros(len(image)) if t is None else t)
        for level in self.levels:
            h = level(h, condition)
        # A fixed grid: where things are stays readable, whatever the size of the image.
        h = F.adaptive_avg_pool2d(F.silu(self.norm(h)), GRID)
        return self.head(torch.flatten(h, 1)).float()
