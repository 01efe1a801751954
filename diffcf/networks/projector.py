r"""The causal projector: from a noisy image and t to the factors, and where each can be read.

Every place of the image holds its own posterior: from a *limited field of view* it states a mean
and a variance for each factor. A factor is then read where its posterior is sharpest,

.. math:: w_{i}(l) \propto \sigma_i(l)^{-2\beta}, \qquad \hat z_i = \sum_l w_i(l)\,\mu_i(l),

so attention is not a free parameter that can settle on the wrong place: it is the learned answer
to "where alone is this factor certain?". Training is on region composites
(:mod:`diffcf.networks.region_mixing`), in which every place is labelled with the factors of the
image that supplied it. There, a place that infers the shadow from the sun is often wrong and learns
a large variance; the place that sees the shadow is not. No mask, no labelled region and no
intervention takes part. (Our construction; the paper leaves the projector's architecture open.)
"""

from __future__ import annotations

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph, CodeDistribution, LocalPosterior, mixture
from diffcf.networks.blocks import (
    FourierFeatures,
    append_coordinates,
    check_channels,
    check_sides,
    time_embedding,
    zero_init,
)


class LocalProjector(Protocol):
    """What region mixing and training need of a projector; see :class:`LocalPosteriorProjector`."""

    graph: CausalGraph

    def __call__(self, x_t: Tensor, t: Tensor) -> LocalPosterior: ...

    def everywhere(self, factors: Tensor, image: Tensor) -> Tensor: ...

    def saliency(self, image: Tensor) -> Tensor: ...

    def local_loss(
        self,
        posterior: LocalPosterior,
        targets: Tensor,
        saliency: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor: ...


class LocalPosteriorProjector(nn.Module):
    """Projector with a local posterior at every place.

    Args:
        graph, image_channels: the factors with their kinds, and channels of the image.
        patch: side of the square of pixels folded into channels; also the grid of places.
        channels: width.
        blocks: residual blocks; the n-th is dilated n-fold.
        condition, frequencies: width of the embedding of t, and its Fourier frequencies.
        sharpness: β, how strongly attention prefers small variance.
        scale_floor: least standard deviation of a place's posterior.
    """

    def __init__(
        self,
        graph: CausalGraph,
        image_channels: int = 3,
        patch: int = 4,
        channels: int = 64,
        blocks: int = 2,
        condition: int = 64,
        frequencies: int = 4,
        sharpness: float = 3.0,
        scale_floor: float = 0.002,
    ) -> None:
        super().__init__()
        self.graph, self.patch, self.sharpness = graph, patch, sharpness
        self.image_channels = image_channels
        self.code = CodeDistribution(graph, scale_floor)
        self.embed = time_embedding(condition, frequencies)
        self.stem = nn.Conv2d(image_channels * patch**2 + 2, channels, 3, padding=1)
        dilations = range(1, blocks + 1)
        self.blocks = nn.ModuleList(LocalBlock(channels, condition, n) for n in dilations)
        self.reach = 1 + sum(n + 1 for n in dilations)  # places, stem included
        # Positions once more, finely, where values of position are computed.
        self.position = FourierFeatures(frequencies)
        self.hidden = nn.Conv2d(channels + 2 * self.position.width, 2 * channels, 1)
        self.head = zero_init(nn.Conv2d(2 * channels, 2 * sum(graph.widths), 1))

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of the square that a place sees."""
        return self.patch * (2 * self.reach + 1)

    def forward(self, x_t: Tensor, t: Tensor) -> LocalPosterior:
        """Read noisy images ``[B, C, H, W]`` at times ``[B]``.

        Raises:
            ValueError: when H or W is not a multiple of ``patch``.
        """
        check_sides(x_t.shape[-2:], self.patch, "The projector", "image_size or patch")
        check_channels(x_t, self.image_channels, "The projector")
        h = self.stem(append_coordinates(F.pixel_unshuffle(x_t, self.patch)))
        condition = self.embed(t)
        for block in self.blocks:
            h = block(h, condition)
        place = append_coordinates(h[:, :0])
        h = torch.cat([F.silu(h), rearrange(self.position(place), "b c h w f -> b (c f) h w")], 1)
        raw, log_scale = self.head(F.silu(self.hidden(h))).float().chunk(2, dim=1)
        return self._mixture(*self.code(raw, log_scale))

    def _mixture(self, local_mean: Tensor, local_variance: Tensor) -> LocalPosterior:
        """The mixture of all places' posteriors ``[B, E, h, w]``, the sharpest weighted most."""
        logits = -self.sharpness * self.code.per_factor(local_variance).log()
        attention = logits.flatten(2).softmax(dim=-1).view_as(logits)
        weight = self.code.per_column(attention)
        return mixture(attention, weight, local_mean, local_variance)

    def log_prob(self, posterior: LocalPosterior, factors: Tensor) -> Tensor:
        """log p(z_i | x_t) of the whole image's posterior, ``[B, K]``, for factors ``[B, K]``."""
        return self.code.log_prob(posterior.mean, posterior.variance, factors)

    def everywhere(self, factors: Tensor, image: Tensor) -> Tensor:
        """The label of every place, ``[B, K, h, w]``, of images that are no composites."""
        grid = (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        return factors[:, :, None, None].expand(-1, -1, *grid)

    def saliency(self, image: Tensor) -> Tensor:
        """How far every place is from what the batch shows there on average, ``[B, 1, h, w]``."""
        return F.avg_pool2d((image - image.mean(0)).abs().mean(1, keepdim=True), self.patch)

    def local_loss(
        self,
        posterior: LocalPosterior,
        targets: Tensor,
        saliency: Tensor,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Negative log-likelihood of every place, scalar.

        Every place learns, but not with equal weight: most of an image is background that can only
        say how factors are distributed. A fifth of the weight is uniform, two fifths follow
        saliency (where there is something to read), two fifths attention (what is in fact read).

        ``targets`` ``[B, K, h, w]`` label each place with the factors of its source image;
        ``saliency`` ``[B, 1, h, w]`` is how much each place shows that other images do not;
        ``weight`` ``[B, K, h, w]`` is of the targets (:class:`diffcf.causal.LevelBalance`).
        """
        nll = -self.code.log_prob(posterior.local_mean, posterior.local_variance, targets)
        if weight is not None:
            nll = nll * weight
        uniform = 1.0 / (nll.shape[-1] * nll.shape[-2])
        share = saliency / saliency.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        places = 0.2 * uniform + 0.4 * share + 0.4 * posterior.attention.detach()
        return (places * nll).sum(dim=(2, 3)).mean()


class LocalBlock(nn.Module):
    """Residual block without GroupNorm, which would pass on the whole image to every place."""

    def __init__(self, channels: int, condition: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.film = nn.Linear(condition, 2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.conv2.weight, std=0.02)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(F.silu(h)) * (1 + scale) + shift
        return h + self.conv2(F.silu(out))
