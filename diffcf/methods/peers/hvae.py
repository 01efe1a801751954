r"""The network of the HVAE baseline (:mod:`diffcf.methods.peers.hvae_dscm`).

.. math::
    p(x, z_{1:L} \mid pa) = \mathcal N\bigl(x; \mu(z, pa), \sigma(z, pa)^2\bigr)
        \prod_i p(z_i \mid z_{<i}), \qquad
    q(z_{1:L} \mid x, pa) = \prod_i q(z_i \mid z_{<i}, x, pa)

A bottom-up encoder keeps its features at every grid; a top-down decoder merges in one z per grid,
coarse to fine. Two streams run down: one draws, conditioned on the parents at every grid; the other
computes the prior from earlier z alone, so that z stays exogenous.

References:
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (Ribeiro et al., 2023),
    https://arxiv.org/abs/2306.15764
    Very Deep VAEs (Child, 2021), https://arxiv.org/abs/2011.10650
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.io import SettingsError
from diffcf.methods.peers.latent_networks import Gaussian, gaussian_kl
from diffcf.networks import (
    ConditionEmbedding,
    FactorFeatures,
    Level,
    SpatialBroadcast,
    append_coordinates,
    check_channels,
    check_sides,
    zero_init,
)

LOG_SCALE = 4.0  # bound of |log σ| of every latent's prior and posterior


@dataclass(frozen=True)
class Explained:
    """The latents of images and what follows from them.

    Attributes:
        latents: z_i ``[B, Z, h_i, w_i]``, coarse to fine.
        kl: ``[B]``, KL(q || p) over all latents in nats.
        drawn: p(x | z, pa), ``[B, C, H, W]``.
    """

    latents: list[Tensor]
    kl: Tensor
    drawn: Gaussian


class ConditionalHVAE(nn.Module):
    """Hierarchical VAE of images given their factors, with a prior that does not depend on them.

    Args:
        graph: gives the factors and their kinds.
        image_channels, patch, condition, frequencies: see :class:`diffcf.networks.UNet`.
        channels: width of the decoder at each grid, fine to coarse; the resolution halves between.
        encoder: likewise of the encoder, which can be narrower where factors determine most.
        blocks: residual blocks per grid, on the way up and again on the way down.
        latents: channels of z at every grid.
        prior: width of the stream that computes the prior.
        broadcast: hidden width of the :class:`SpatialBroadcast` at every grid.
        scale_floor: least standard deviation of a pixel, in the image's units of [-1, 1].

    Raises:
        ValueError: when ``encoder`` and ``channels`` differ in length.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        patch: int = 4,
        channels: list[int] = [64, 96, 128],  # noqa: B006 (jsonargparse reads the default)
        encoder: list[int] = [32, 64, 96],  # noqa: B006
        blocks: int = 1,
        latents: int = 8,
        prior: int = 32,
        condition: int = 192,
        broadcast: int = 96,
        frequencies: int = 6,
        scale_floor: float = 0.01,
    ) -> None:
        super().__init__()
        if len(encoder) != len(channels):
            raise SettingsError(
                f"HVAE 'encoder' needs a width for each of the {len(channels)} grids of "
                f"'channels', got {list(encoder)}."
            )
        self.patch, self.stride = patch, patch * 2 ** (len(channels) - 1)
        self.image_channels = image_channels
        self.scale_floor, self.prior, self.widest = scale_floor, prior, channels[-1]
        self.features = FactorFeatures(graph, frequencies)
        self.embed = ConditionEmbedding(self.features.width, condition, frequencies)
        folded = image_channels * patch**2
        self.stem = nn.Conv2d(folded + 2, encoder[0], 3, padding=1)
        self.up = nn.ModuleList([Level(encoder[0], encoder[0], condition, blocks)])
        self.up.extend(Level(a, b, condition, blocks, shrink=True) for a, b in pairwise(encoder))
        finer = [*reversed(channels[:-1]), None]
        self.down = nn.ModuleList(
            TopDown(
                (width, encoded, prior, latents),
                SpatialBroadcast(self.features.width, broadcast, width, frequencies),
                Level(width, narrower or width, condition, blocks, grow=narrower is not None),
            )
            for width, encoded, narrower in zip(channels[::-1], encoder[::-1], finer, strict=True)
        )
        self.norm = nn.GroupNorm(8, channels[0])
        self.head = zero_init(nn.Conv2d(channels[0], 2 * folded, 1))

    def forward(
        self,
        image: Tensor,
        factors: Tensor,
        sample: bool = True,
        condition_mask: Tensor | None = None,
    ) -> Explained:
        """Explain images ``[B, C, H, W]`` with factors ``[B, K]``.

        Args:
            sample: draw z from q, as training does; else its mean, coarse to fine.
            condition_mask: ``[B, K]`` bool, the factors to use; None for all.

        Raises:
            ValueError: when H or W is not a multiple of ``stride``.
        """
        check_sides(image.shape[-2:], self.stride, "The HVAE")
        check_channels(image, self.image_channels, "The HVAE")
        features, condition = self._condition(factors, condition_mask)
        encoded, latents = self._encode(image, condition), []
        kl = image.new_zeros(len(image))

        def infer(grid: TopDown, h: Tensor, stream: Tensor) -> Tensor:
            nonlocal kl
            q, p = grid.posterior(h, encoded.pop()), grid.prior(stream)
            kl = kl + gaussian_kl(q, p).flatten(1).sum(dim=1)
            latents.append(q.sample() if sample else q.mean)
            return latents[-1]

        drawn = self._decode(encoded[-1].shape[-2:], features, condition, infer)
        return Explained(latents, kl, drawn)

    def draw(self, latents: list[Tensor], factors: Tensor) -> Gaussian:
        """p(x | z, pa) of latents as :class:`Explained` has them and factors ``[B, K]``."""
        rest = iter(latents)
        return self._decode(latents[0].shape[-2:], *self._condition(factors), lambda *_: next(rest))

    def _condition(
        self, factors: Tensor, condition_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The factors' features and the conditioning vector; there is no time, so t is 0."""
        t = factors.new_zeros(len(factors))
        features = self.features(t, factors, condition_mask)
        return features, self.embed(t, features)

    def _encode(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """The encoder's features at every grid, fine to coarse."""
        p = self.patch
        h = rearrange(image, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        h, encoded = self.stem(append_coordinates(h)), []
        for level in self.up:
            h = level(h, condition)
            encoded.append(h)
        return encoded

    def _decode(
        self,
        size: Sequence[int],
        features: Tensor,
        condition: Tensor,
        choose: Callable[[TopDown, Tensor, Tensor], Tensor],
    ) -> Gaussian:
        """Run both streams down from a grid of ``size``; ``choose(grid, h, stream)`` gives z."""
        h = features.new_zeros((len(features), self.widest, *size))
        stream = features.new_zeros((len(features), self.prior, *size))
        for grid in self.down:
            assert isinstance(grid, TopDown)
            h = h + grid.broadcast(h, features)
            h, stream = grid(h, stream, choose(grid, h, stream), condition)
        raw, p = self.head(F.silu(self.norm(h))).float(), self.patch
        mean, raw = rearrange(raw, "b (s c p q) h w -> s b c (h p) (w q)", s=2, p=p, q=p)
        # Between the floor and 1: no pixel's likelihood grows without bound, none is given up.
        return Gaussian(mean, math.log(self.scale_floor) * (1 - raw.sigmoid()))


class TopDown(nn.Module):
    """One grid of the decoder: its latents' prior and posterior, and both streams' next step.

    Args:
        widths: channels of the drawing, the encoder's features, the prior's stream and z.
        broadcast: the factors as an image of the drawing's channels.
        level: takes the drawing to the next grid; one that does not grow is the last.
    """

    def __init__(
        self, widths: tuple[int, int, int, int], broadcast: SpatialBroadcast, level: Level
    ) -> None:
        super().__init__()
        width, encoded, prior, latents = widths
        self.broadcast, self.level = broadcast, level
        self._prior = nn.Sequential(
            nn.Conv2d(prior + 2, prior, 3, padding=1),
            nn.SiLU(),
            zero_init(nn.Conv2d(prior, 2 * latents, 1)),
        )
        half = width // 2
        self._posterior = nn.Sequential(
            nn.Conv2d(width + encoded, half, 1),
            nn.SiLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.SiLU(),
            zero_init(nn.Conv2d(half, 2 * latents, 1)),
        )
        self.merge = nn.Conv2d(latents, width, 1)
        last = isinstance(level.grow, nn.Identity)
        remember = [nn.Conv2d(prior + latents + 2, prior, 3, padding=1), nn.SiLU()]
        self.remember = None if last else nn.Sequential(*remember, nn.Upsample(scale_factor=2))

    def prior(self, stream: Tensor) -> Gaussian:
        """p(z_i | z_<i) from the prior's stream ``[B, P, h, w]``: no factor enters."""
        return _bounded(self._prior(append_coordinates(stream)))

    def posterior(self, h: Tensor, encoded: Tensor) -> Gaussian:
        """q(z_i | z_<i, x, pa) from the drawing so far and the encoder's features."""
        return _bounded(self._posterior(torch.cat([h, encoded], dim=1)))

    def forward(
        self, h: Tensor, stream: Tensor, z: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams at the next grid, ``z`` merged into each."""
        h = self.level(h + self.merge(z), condition)
        if self.remember is not None:
            stream = self.remember(append_coordinates(torch.cat([stream, z], dim=1)))
        return h, stream


def _bounded(raw: Tensor) -> Gaussian:
    """Mean and bounded log σ ``[B, Z, h, w]`` from a layer's output ``[B, 2 Z, h, w]``."""
    mean, log_scale = raw.float().chunk(2, dim=1)
    return Gaussian(mean, LOG_SCALE * torch.tanh(log_scale / LOG_SCALE))
