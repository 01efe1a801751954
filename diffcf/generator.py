r"""The diffusion generator: a U-Net that predicts the velocity v from a noisy image.

Pixels are folded into channels first (``patch``), so that the costly full-resolution levels do not
exist; coordinates are appended, so that the network can draw at absolute positions. Conditioning on
factors is optional, per sample and per factor: a factor that is not ``known`` is as if absent, and
with none known the network is the unconditional generator of the paper's plain reading.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.blocks import FourierFeatures, ResBlock, append_coordinates, zero_init
from diffcf.graph import CausalGraph

__all__ = ["UNet"]


class UNet(nn.Module):
    """v-prediction U-Net with optional factor conditioning.

    Args:
        graph: gives the number of factors.
        image_channels: channels of the image.
        patch: side of the square of pixels folded into channels.
        channels: width of each level; the resolution halves between levels.
        blocks: residual blocks per level, on the way down and again on the way up.
        attention_heads: heads of the self-attention at the lowest level; 0 for none.
        condition: width of the conditioning vector.
        frequencies: Fourier frequencies of t and of every factor.
        conditional: whether the factors are used at all.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
        attention_heads: int = 4,
        condition: int = 256,
        frequencies: int = 6,
        conditional: bool = True,
    ) -> None:
        super().__init__()
        self.patch, self.conditional = patch, conditional
        self.stride = patch * 2 ** (len(channels) - 1)
        self.embed = ConditionEmbedding(len(graph) if conditional else 0, condition, frequencies)
        folded = image_channels * patch**2
        self.stem = nn.Conv2d(folded + 2, channels[0], 3, padding=1)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width = channels[0]
        for level, wider in enumerate(channels):
            self.down.append(Level(width, wider, condition, blocks, shrink=level > 0))
            self.up.insert(0, Level(wider, width, condition, blocks, grow=level > 0))
            width = wider
        self.middle = Middle(width, condition, attention_heads)
        self.head = nn.Sequential(
            nn.GroupNorm(8, channels[0]),
            nn.SiLU(),
            zero_init(nn.Conv2d(channels[0], folded, 3, padding=1)),
        )

    def forward(
        self, x_t: Tensor, t: Tensor, factors: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """Predict v.

        Args:
            x_t: noisy images ``[B, C, H, W]``; H and W are multiples of ``stride``.
            t: ``[B]`` in [0, 1].
            factors: ``[B, K]`` in [0, 1] units; None for the unconditional generator.
            known: ``[B, K]`` bool, the factors to heed; None for all.

        Returns:
            v, shaped like ``x_t``.

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        if x_t.shape[-1] % self.stride or x_t.shape[-2] % self.stride:
            raise ValueError(
                f"UNet takes image sides that are multiples of {self.stride}, got "
                f"{tuple(x_t.shape[-2:])}: change image_size, patch or the number of levels."
            )
        condition = self.embed(t, factors, known)
        p = self.patch
        h = rearrange(x_t, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        h = self.stem(append_coordinates(h))
        skips = []
        for level in self.down:
            h = level(h, condition)
            skips.append(h)
        h = self.middle(h, condition)
        for level in self.up:
            h = level(h + skips.pop(), condition)
        return rearrange(self.head(h), "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)


class ConditionEmbedding(nn.Module):
    """t and the known factors → a conditioning vector ``[B, width]``."""

    def __init__(self, num_factors: int, width: int, frequencies: int) -> None:
        super().__init__()
        self.num_factors = num_factors
        self.fourier = FourierFeatures(frequencies)
        # One more feature per factor says whether it is known.
        inputs = self.fourier.width + num_factors * (self.fourier.width + 1)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, t: Tensor, factors: Tensor | None, known: Tensor | None) -> Tensor:
        features = self.fourier(t)
        if self.num_factors:
            if factors is None:
                factors = t.new_zeros(len(t), self.num_factors)
                known = torch.zeros_like(factors, dtype=torch.bool)
            elif known is None:
                known = torch.ones_like(factors, dtype=torch.bool)
            # where, not a product: an unknown factor may be NaN.
            heeded = torch.where(known, factors, 0.0)
            flag = known.to(factors).unsqueeze(-1)
            of_factors = torch.cat([self.fourier(heeded) * flag, flag], dim=-1)
            features = torch.cat([features, of_factors.flatten(1)], dim=-1)
        return self.mlp(features)


class Middle(nn.Module):
    """The lowest level: block, self-attention over all places, block."""

    def __init__(self, channels: int, condition: int, heads: int) -> None:
        super().__init__()
        self.before = ResBlock(channels, channels, condition)
        self.attention = SelfAttention(channels, heads) if heads else nn.Identity()
        self.after = ResBlock(channels, channels, condition)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        return self.after(self.attention(self.before(h, condition)), condition)


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor) -> Tensor:
        rows = h.shape[-2]
        qkv = rearrange(self.qkv(self.norm(h)), "b (s n c) h w -> s b n (h w) c", s=3, n=self.heads)
        mixed = F.scaled_dot_product_attention(*qkv)
        return h + self.out(rearrange(mixed, "b n (h w) c -> b (n c) h w", h=rows))


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
        self.shrink = (
            nn.Conv2d(channels_in, channels_in, 3, stride=2, padding=1) if shrink else nn.Identity()
        )
        widths = [channels_in] + [channels_out] * blocks
        self.blocks = nn.ModuleList(
            ResBlock(before, after, condition) for before, after in pairwise(widths)
        )
        # A convolution at the low resolution, then unfolding: a quarter of the usual order's cost.
        unfold = [nn.Conv2d(channels_out, 4 * channels_out, 1), nn.PixelShuffle(2)]
        self.grow = nn.Sequential(*unfold) if grow else nn.Identity()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        h = self.shrink(h)
        for block in self.blocks:
            h = block(h, condition)
        return self.grow(h)
