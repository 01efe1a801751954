"""What a network reads off an image about the factors, as a distribution over their code.

:class:`FactorPosterior` is the result, of the causal projector and of any other predictor;
:class:`CodeDistribution` makes it from a network's raw outputs and gives its likelihood.

Reference: Estimating the mean and variance of the target distribution (Nix & Weigend, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcf.causal.graph import CausalGraph


@dataclass(frozen=True)
class FactorPosterior:
    """Mean and variance of the factors' code (:meth:`CausalGraph.encode`), ``[B, E]`` each.

    The mean is a value in [0, 1] units, the probability of a binary factor, or the probabilities of
    all categories; :meth:`CausalGraph.decode` turns it into factors.
    """

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class LocalPosterior(FactorPosterior):
    """A mixture over the places of an image, each with its own posterior.

    The variance is the mixture's, so that disagreement between places counts.

    Attributes:
        attention: the weight of each place, ``[B, K, h, w]``; sums to 1 over places.
        local_mean, local_variance: of each place, ``[B, E, h, w]``.
    """

    attention: Tensor
    local_mean: Tensor
    local_variance: Tensor

    def within(self, where: Tensor, owner: Tensor) -> LocalPosterior:
        """The same, read at some places alone.

        ``where`` ``[B, K, H, W]`` in [0, 1], in a multiple of the places, says for each factor how
        far; a factor that is to be read nowhere is read as before. ``owner`` is
        :attr:`CausalGraph.code_owner`.
        """
        attention = attention_within(self.attention, where)
        weight = attention[:, owner.to(attention.device)]
        return mixture(attention, weight, self.local_mean, self.local_variance)


def mixture(
    attention: Tensor, weight: Tensor, local_mean: Tensor, local_variance: Tensor
) -> LocalPosterior:
    """The mixture of places' posteriors ``[B, E, h, w]``.

    ``attention`` is ``[B, K, h, w]``, ``weight`` the same for each column of the code,
    ``[B, E, h, w]``.
    """
    mean = (weight * local_mean).sum(dim=(2, 3))
    spread = local_variance + (local_mean - mean[:, :, None, None]).square()
    variance = (weight * spread).sum(dim=(2, 3))
    return LocalPosterior(mean, variance, attention, local_mean, local_variance)


def attention_within(attention: Tensor, where: Tensor) -> Tensor:
    """Attention ``[B, K, h, w]`` restricted as :meth:`LocalPosterior.within` says.

    >>> attention, left = torch.full((1, 1, 1, 4), 0.25), torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    >>> attention_within(attention, left)
    tensor([[[[0.5000, 0.5000, 0.0000, 0.0000]]]])
    """
    size = (int(attention.shape[-2]), int(attention.shape[-1]))
    here = F.adaptive_avg_pool2d(where.to(attention), size)
    # Of places that were hardly looked at, too, some must speak for the factor.
    kept = (attention + 1e-6) * here
    total = kept.sum(dim=(2, 3), keepdim=True)
    return torch.where(total > 0, kept / total.clamp_min(1e-12), attention)


class CodeDistribution(nn.Module):
    """Gaussian for continuous factors, Bernoulli for binary, categorical for categorical ones.

    It has no parameters. Codes are ``[B, E, ...]`` and factors ``[B, K, ...]``, with any further
    dimensions, such as places. ``scale_floor`` is the least standard deviation of a continuous
    factor, in [0, 1] units.
    """

    owner: Tensor
    discrete: Tensor
    categorical: Tensor

    def __init__(self, graph: CausalGraph, scale_floor: float) -> None:
        super().__init__()
        self.graph, self.scale_floor = graph, scale_floor
        owner = graph.code_owner
        self.has_categories = len(owner) > len(graph)
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("discrete", graph.discrete[owner], persistent=False)
        self.register_buffer("categorical", graph.categorical[owner], persistent=False)

    def forward(self, raw: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the code from two network outputs; both are ``[B, E, ...]``.

        Outputs of 0 give the middle of the range with a wide scale.
        """
        probability = raw.sigmoid()
        if self.has_categories:
            parts = [part.softmax(dim=1) for part in torch.split(raw, self.graph.widths, dim=1)]
            categorical = _columns(self.categorical, raw)
            probability = torch.where(categorical, torch.cat(parts, dim=1), probability)
        scale = self.scale_floor + F.softplus(log_scale - 1.0)
        discrete = _columns(self.discrete, raw)
        mean = torch.where(discrete, probability, raw + 0.5)
        bernoulli = (probability * (1 - probability)).clamp_min(1e-6)
        return mean, torch.where(discrete, bernoulli, scale.square())

    def log_prob(self, mean: Tensor, variance: Tensor, factors: Tensor) -> Tensor:
        """log p(z_k) ``[B, K, ...]`` of factors, up to a constant for continuous ones."""
        code = self.graph.encode(factors, dim=1)
        gauss = -0.5 * ((code - mean).square() / variance + variance.log())
        p = mean.clamp(1e-6, 1 - 1e-6)
        hit, miss = code * p.log(), (1 - code) * (1 - p).log()
        discrete = torch.where(_columns(self.categorical, code), hit, hit + miss)
        return self.per_factor(torch.where(_columns(self.discrete, code), discrete, gauss))

    def per_factor(self, code: Tensor) -> Tensor:
        """Sum over each factor's columns, ``[B, E, ...]`` to ``[B, K, ...]``."""
        if not self.has_categories:
            return code
        total = code.new_zeros(len(code), len(self.graph), *code.shape[2:])
        return total.index_add(1, self.owner, code)

    def per_column(self, factors: Tensor) -> Tensor:
        """``[B, K, ...]`` repeated for each factor's columns, ``[B, E, ...]``."""
        return factors[:, self.owner] if self.has_categories else factors


def _columns(flags: Tensor, code: Tensor) -> Tensor:
    """``[E]`` shaped to broadcast over a code ``[B, E, ...]``."""
    return flags.view(1, -1, *(1,) * (code.dim() - 2))
