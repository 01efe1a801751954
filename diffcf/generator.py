r"""The diffusion generator: a U-Net that predicts the velocity v from a noisy image.

Pixels are folded into channels first (``patch``), so that the costly full-resolution levels do not
exist; coordinates are appended, so that the network can draw at absolute positions. Conditioning on
factors is optional, per sample and per factor: a factor that is not ``known`` is as if absent, and
with none known the network is the unconditional generator of the paper's plain reading.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.blocks import ResBlock, append_coordinates, check_sides, zero_init
from diffcf.conditioning import Canvas, ConditionEmbedding, FactorFeatures
from diffcf.diffusion import noise_level, signal_level
from diffcf.graph import CausalGraph

__all__ = ["UNet"]


class UNet(nn.Module):
    """v-prediction U-Net with optional factor conditioning.

    Args:
        graph: gives the factors and their kinds.
        image_channels: channels of the image.
        patch: side of the square of pixels folded into channels.
        channels: width of each level; the resolution halves between levels.
        blocks: residual blocks per level, on the way down and again on the way up.
        attention_heads: heads of the self-attention at the lowest level; 0 for none.
        condition: width of the conditioning vector.
        canvas: hidden width of the :class:`Canvas` that is added to the first layer.
        frequencies: Fourier frequencies of t, of every factor and of places.
        conditional: whether the factors are used at all.
        data_mean, data_std: of the pixels. What a linear guess with these two numbers knows of v is
            added at the end, so that the layers need not carry the noise through (Karras et al.
            2022, https://arxiv.org/abs/2206.00364, section 5, in terms of v).
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
        canvas: int = 128,
        frequencies: int = 6,
        conditional: bool = True,
        data_mean: float = 0.0,
        data_std: float = 0.5,
    ) -> None:
        super().__init__()
        self.patch, self.conditional = patch, conditional
        self.data_mean, self.data_std = data_mean, data_std
        self.stride = patch * 2 ** (len(channels) - 1)
        self.features = self.condition_features(graph if conditional else None, frequencies)
        self.embed = ConditionEmbedding(self.features.width, condition, frequencies)
        folded = image_channels * patch**2
        self.stem = nn.Conv2d(folded + 2, channels[0], 3, padding=1)
        self.canvas = Canvas(self.features.width, canvas, channels[0], frequencies)

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
            zero_init(nn.Conv2d(channels[0], 2 * folded, 1)),
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
        check_sides(x_t.shape[-2:], self.stride, "UNet")
        signal, noise = signal_level(t), noise_level(t)
        centred = x_t - signal * self.data_mean
        spread = ((signal * self.data_std).square() + noise.square()).sqrt()
        guess = signal * noise * (1 - self.data_std**2) / spread.square() * centred
        rest = self.residual_scale(t) * self._layers(centred / spread, t, factors, known)
        return guess - noise * self.data_mean + rest

    def condition_features(self, graph: CausalGraph | None, frequencies: int) -> Any:
        """What makes features of ``(t, factors, known)``; a subclass may condition on others."""
        return FactorFeatures(graph, frequencies)

    def residual_scale(self, t: Tensor) -> Tensor:
        """Standard deviation of what the linear guess leaves of v, ``[B, 1, 1, 1]``."""
        variance = (signal_level(t) * self.data_std).square() + noise_level(t).square()
        return self.data_std / variance.sqrt()

    def _layers(self, x: Tensor, t: Tensor, factors: Tensor | None, known: Tensor | None) -> Tensor:
        features = self.features(t, factors, known)
        condition = self.embed(t, features)
        p = self.patch
        x = rearrange(x, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        h = self.stem(append_coordinates(x)) + self.canvas(x, features)
        skips = []
        for level in self.down:
            h = level(h, condition)
            skips.append(h)
        h = self.middle(h, condition)
        for level in self.up:
            h = level(h + skips.pop(), condition)
        # A gate on the input itself: the few channels in between say what is drawn where, and need
        # not carry every pixel's noise to the end only to subtract it there.
        gate, content = self.head(h).chunk(2, dim=1)
        return rearrange(gate * x + content, "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)


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
