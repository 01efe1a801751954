r"""The causal projector: from a noisy image and t to what each factor is, and where it is written.

Every place of the image holds its own posterior: from a *limited field of view* it states a mean
and a variance for each factor. A factor is then read where its posterior is sharpest,

.. math:: w_{i}(l) \propto \sigma_i(l)^{-2\beta}, \qquad \hat z_i = \sum_l w_i(l)\,\mu_i(l),

so attention is not a free parameter that can settle on the wrong place: it is the learned answer
to "where alone is this factor certain?". Trained on region composites with every place answering
for the image that supplied it (:mod:`diffcf.networks.region_mixing`), a place that infers the shadow from the sun
is often wrong and says so by its variance; the place that sees the shadow is not. No mask, no
labelled region and no intervention takes part. (Our construction; the paper leaves the projector's
architecture open.)

Reference:
    Nix & Weigend, Estimating the mean and variance of the target distribution, 1994.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph, FactorPosterior
from diffcf.networks.blocks import FourierFeatures, append_coordinates, zero_init


class LocalPosteriorProjector(nn.Module):
    """Projector with a local posterior at every place.

    Args:
        graph: gives the factors and their kinds.
        image_channels: channels of the image.
        patch: side of the square of pixels folded into channels; also the grid of places.
        channels: width.
        blocks: residual blocks; the n-th is dilated n-fold. :attr:`receptive_field` says how many pixels
            across a place then sees.
        condition: width of the embedding of t.
        frequencies: Fourier frequencies of t.
        sharpness: β, how strongly attention prefers small variance.
        scale_floor: least standard deviation that a place may claim.
    """

    _binary: Tensor
    _categorical: Tensor
    _owner: Tensor

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
        self.patch, self.sharpness, self.scale_floor = patch, sharpness, scale_floor
        self.graph = graph
        owner = graph.code_owner
        self._widths = graph.widths
        self.register_buffer("_owner", owner, persistent=False)
        self.register_buffer("_binary", graph.binary[owner].view(1, -1, 1, 1), persistent=False)
        categorical = graph.categorical[owner].view(1, -1, 1, 1)
        self.register_buffer("_categorical", categorical, persistent=False)
        fourier = FourierFeatures(frequencies)
        self.embed = nn.Sequential(fourier, nn.Linear(fourier.width, condition), nn.SiLU())
        self.stem = nn.Conv2d(image_channels * patch**2 + 2, channels, 3, padding=1)
        dilations = range(1, blocks + 1)
        self.blocks = nn.ModuleList(LocalBlock(channels, condition, n) for n in dilations)
        self.reach = 1 + sum(n + 1 for n in dilations)  # places, stem included
        # Where a place lies is told again, finely, where positions are computed.
        self.position = FourierFeatures(frequencies)
        self.hidden = nn.Conv2d(channels + 2 * self.position.width, 2 * channels, 1)
        self.head = zero_init(nn.Conv2d(2 * channels, 2 * len(owner), 1))

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of the square that a place sees."""
        return self.patch * (2 * self.reach + 1)

    def forward(self, x_t: Tensor, t: Tensor) -> FactorPosterior:
        """Read noisy images ``[B, C, H, W]`` at times ``[B]``.

        Raises:
            ValueError: when H or W is not a multiple of ``patch``.
        """
        p = self.patch
        if x_t.shape[-1] % p or x_t.shape[-2] % p:
            raise ValueError(
                f"The projector takes image sides that are multiples of its patch {p}, "
                f"got {tuple(x_t.shape[-2:])}: change image_size or patch."
            )
        h = rearrange(x_t, "b c (h p) (w q) -> b (c p q) h w", p=p, q=p)
        h = self.stem(append_coordinates(h))
        condition = self.embed(t)
        for block in self.blocks:
            h = block(h, condition)
        h = torch.cat([F.silu(h), self._positions(h)], dim=1)
        raw, log_scale = self.head(F.silu(self.hidden(h))).float().chunk(2, dim=1)
        return self._posterior(raw, log_scale)

    def everywhere(self, factors: Tensor, image: Tensor) -> Tensor:
        """The label of every place, ``[B, K, h, w]``, of images that are no composites."""
        grid = (image.shape[-2] // self.patch, image.shape[-1] // self.patch)
        return factors[:, :, None, None].expand(-1, -1, *grid)

    def saliency(self, image: Tensor) -> Tensor:
        """How far every place is from what the batch shows there on average, ``[B, 1, h, w]``."""
        return F.avg_pool2d((image - image.mean(0)).abs().mean(1, keepdim=True), self.patch)

    def _positions(self, h: Tensor) -> Tensor:
        """Fourier features of every place's column and row, ``[B, C, h, w]``."""
        coordinates = append_coordinates(h[:, :0])
        return self.position(coordinates).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def _posterior(self, raw: Tensor, log_scale: Tensor) -> FactorPosterior:
        # Zero-initialised heads start at the middle of the range with a wide scale.
        probability = self._probabilities(raw)
        scale = self.scale_floor + F.softplus(log_scale - 1.0)
        discrete = self._binary | self._categorical
        local_mean = torch.where(discrete, probability, raw + 0.5)
        local_variance = torch.where(
            discrete, (probability * (1 - probability)).clamp_min(1e-6), scale.square()
        )
        logits = -self.sharpness * self._per_factor(local_variance).log()
        attention = logits.flatten(2).softmax(dim=-1).view_as(logits)
        weight = self._per_code(attention)
        mean = (weight * local_mean).sum(dim=(2, 3))
        spread = local_variance + (local_mean - mean[:, :, None, None]).square()
        variance = (weight * spread).sum(dim=(2, 3))
        return FactorPosterior(mean, variance, attention, local_mean, local_variance)

    def _probabilities(self, raw: Tensor) -> Tensor:
        """``[B, E, h, w]``: of 1 for a binary factor, of each category for a categorical one."""
        probability = raw.sigmoid()
        if len(self._owner) == len(self.graph):
            return probability
        groups = raw.split(self._widths, dim=1)
        softmax = torch.cat([group.softmax(dim=1) for group in groups], dim=1)
        return torch.where(self._categorical, softmax, probability)

    def _per_factor(self, code: Tensor) -> Tensor:
        """Sum over each factor's code, ``[B, E, ...]`` to ``[B, K, ...]``."""
        if len(self._owner) == len(self.graph):
            return code
        total = code.new_zeros(len(code), len(self.graph), *code.shape[2:])
        return total.index_add(1, self._owner, code)

    def _per_code(self, factors: Tensor) -> Tensor:
        """``[B, K, ...]`` repeated for each factor's code, ``[B, E, ...]``."""
        return factors if len(self._owner) == len(self.graph) else factors[:, self._owner]

    def log_prob(self, posterior: FactorPosterior, factors: Tensor) -> Tensor:
        """log p(z_i | x_t) of the reading, ``[B, K]``, for factors ``[B, K]``."""
        return self._log_prob(posterior.mean, posterior.variance, factors)

    def local_loss(self, posterior: FactorPosterior, targets: Tensor, saliency: Tensor) -> Tensor:
        """Negative log-likelihood of every place, scalar.

        Args:
            posterior: of the composites ``[B, ...]``.
            targets: ``[B, K, h, w]``, each place's label: the factors of its source image.
            saliency: ``[B, 1, h, w]``, how much each place shows that other images do not.

        Every place learns, but not with equal weight: most of a picture is background that can
        only say how factors are distributed. A fifth of the weight is uniform, two fifths follow
        saliency (where there is something to read), two fifths attention (what is in fact read).
        """
        nll = -self._log_prob(posterior.local_mean, posterior.local_variance, targets)
        uniform = 1.0 / (nll.shape[-1] * nll.shape[-2])
        share = saliency / saliency.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        weight = 0.2 * uniform + 0.4 * share + 0.4 * posterior.attention.detach()
        return (weight * nll).sum(dim=(2, 3)).mean()

    def _log_prob(self, mean: Tensor, variance: Tensor, factors: Tensor) -> Tensor:
        """``[B, K, ...]`` of factors ``[B, K, ...]``, by mean and variance ``[B, E, ...]``.

        Gaussian for continuous factors; for discrete ones ``mean`` holds the probabilities.
        """
        code = self.graph.encode(factors, dim=1)
        shape = (1, -1, *(1,) * (code.dim() - 2))
        binary, categorical = self._binary.view(shape), self._categorical.view(shape)
        gauss = -0.5 * ((code - mean).square() / variance + variance.log())
        p = mean.clamp(1e-6, 1 - 1e-6)
        hit, miss = code * p.log(), (1 - code) * (1 - p).log()
        discrete = torch.where(categorical, hit, hit + miss)
        return self._per_factor(torch.where(binary | categorical, discrete, gauss))


class LocalBlock(nn.Module):
    """Residual block without normalisation.

    GroupNorm averages over the whole picture and would tell every place about every other.
    """

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
