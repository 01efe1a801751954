"""The networks between images and causal latents (:mod:`diffcf.methods.peers.causal_latents`).

Encoder and decoder are the halves of the U-Net (:mod:`diffcf.networks.unet`); the third is that
U-Net, conditioned on latents instead of factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.io import SettingsError
from diffcf.networks import (
    FourierFeatures,
    ImageEncoder,
    Level,
    SpatialBroadcast,
    UNet,
    check_sides,
)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians: mean and log of the standard deviation, of one shape."""

    mean: Tensor
    log_scale: Tensor

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_scale).exp()

    def sample(self) -> Tensor:
        """A draw that gradients go through."""
        return self.mean + self.scale * torch.randn_like(self.mean)

    def divergence(
        self, mean: Tensor | float, scale: float, counted: Tensor | None = None
    ) -> Tensor:
        """KL divergence to N(``mean``, ``scale``²), in nats, averaged over everything; scalar.

        What is not ``counted`` (bool, of a shape that broadcasts) counts as 0.
        """
        like = self.log_scale
        other = Gaussian(like.new_zeros(()) + mean, like.new_tensor(scale).log())
        kl = gaussian_kl(self, other)
        return (kl if counted is None else torch.where(counted, kl, 0.0)).mean()

    def standardised(self, value: Tensor) -> Tensor:
        """How many standard deviations ``value`` is from the mean."""
        return (value - self.mean) / self.scale


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, elementwise.

    >>> q, p = (Gaussian(torch.tensor(m), torch.tensor(0.0)) for m in (1.0, 0.0))
    >>> gaussian_kl(q, p), gaussian_kl(p, p)
    (tensor(0.5000), tensor(0.))
    """
    spread = (2 * (q.log_scale - p.log_scale)).exp() + p.standardised(q.mean).square()
    return p.log_scale - q.log_scale + 0.5 * (spread - 1)


class LatentEncoder(nn.Module):
    """Images ``[B, C, H, W]`` → the posterior of their exogenous latents ``[B, E, D]``.

    Args:
        graph, dimensions: E columns of the code, D dimensions of each.
        image_channels, patch, channels, blocks: see :class:`ImageEncoder`.
    """

    def __init__(
        self,
        graph: CausalGraph,
        dimensions: int = 4,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.shape = (len(graph.code_owner), 2 * dimensions)
        self.encoder = ImageEncoder(prod(self.shape), image_channels, patch, channels, blocks)

    def forward(self, image: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(image).unflatten(1, self.shape).chunk(2, dim=-1)
        # Narrow at first, so that the decoder depends on the latents; bounded against overflow.
        return Gaussian(mean, 0.5 * (log_variance - 4).clamp(-14, 2))


class LatentFeatures(nn.Module):
    """Latents as sines and cosines ``[B, width]``, 0 without latents.

    Stands in for :class:`diffcf.networks.unet.FactorFeatures`; ``columns`` is E · D.
    """

    def __init__(self, columns: int, frequencies: int) -> None:
        super().__init__()
        self.fourier = FourierFeatures(frequencies)
        self.width = columns * self.fourier.width

    def forward(
        self, t: Tensor, latents: Tensor | None, condition_mask: Tensor | None = None
    ) -> Tensor:
        if latents is None:
            return t.new_zeros(len(t), self.width)
        features: Tensor = self.fourier((latents.flatten(1) + 1) / 2)
        return features.flatten(1)


class LatentDecoder(nn.Module):
    """Latents ``[B, E, D]`` → images, by the levels of the U-Net's upward half.

    Args:
        graph, dimensions: E columns of the code, D dimensions of each.
        image_channels, patch, channels, blocks, condition, frequencies: see :class:`UNet`.
        broadcast: hidden width of the :class:`SpatialBroadcast` at the coarsest and finest level.
    """

    def __init__(
        self,
        graph: CausalGraph,
        dimensions: int = 4,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        blocks: int = 2,
        condition: int = 256,
        broadcast: int = 128,
        frequencies: int = 4,
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2 ** (len(channels) - 1)
        self.features = LatentFeatures(len(graph.code_owner) * dimensions, frequencies)
        width = self.features.width
        self.embed = nn.Sequential(
            nn.Linear(width, condition), nn.SiLU(), nn.Linear(condition, condition), nn.SiLU()
        )
        self.coarse = SpatialBroadcast(width, broadcast, channels[-1], frequencies)
        self.fine = SpatialBroadcast(width, broadcast, channels[0], frequencies)
        falling = pairwise(reversed(channels))
        self.levels = nn.ModuleList(Level(a, b, condition, blocks, grow=True) for a, b in falling)
        self.finest = Level(channels[0], channels[0], condition, blocks)
        folded = nn.Conv2d(channels[0], image_channels * patch**2, 1)
        self.head = nn.Sequential(nn.GroupNorm(8, channels[0]), nn.SiLU(), folded)

    def forward(self, latents: Tensor, size: Sequence[int]) -> Tensor:
        """Images ``[B, C, H, W]`` of ``size`` (H, W).

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        check_sides(size, self.stride, "The decoder")
        features = self.features(latents[:, 0, 0], latents)
        condition, p = self.embed(features), self.patch
        places = latents.new_zeros(1, 1, size[0] // self.stride, size[1] // self.stride)
        h = self.coarse(places, features)
        for level in self.levels:
            h = level(h, condition)
        h = self.finest(h + self.fine(h, features), condition)
        folded: Tensor = self.head(h)
        return rearrange(folded, "b (c p q) h w -> b c (h p) (w q)", p=p, q=p)


class LatentUNet(UNet):
    """The U-Net that predicts v, conditioned on latents ``[B, E, D]`` where ours has factors.

    ``dimensions`` is D, and ``network`` are further arguments of :class:`UNet`.
    """

    def __init__(self, graph: CausalGraph, dimensions: int = 4, **network: Any) -> None:
        if network.get("style"):
            raise SettingsError("LatentUNet has no style code: its latents say how to draw.")
        self.columns = len(graph.code_owner) * dimensions
        super().__init__(graph, **network)

    def condition_features(self, graph: CausalGraph | None, frequencies: int) -> LatentFeatures:
        return LatentFeatures(self.columns, frequencies)
