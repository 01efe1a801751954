"""The parts of the structural equations: grouped networks, invertible noise maps, soft graphs.

Nothing here knows factor names. :class:`diffcf.nscm.NSCM` puts the parts together.

References:
    - Neural Spline Flows, Durkan et al. 2019, https://arxiv.org/abs/1906.04032
    - Counterfactual Off-Policy Evaluation with Gumbel-Max SCMs, Oberst & Sontag 2019,
      https://arxiv.org/abs/1905.05824
    - DAGs with NO TEARS, Zheng et al. 2018, https://arxiv.org/abs/1803.01422
    - Simple Statistical Gradient-Following Algorithms (REINFORCE), Williams 1992,
      https://doi.org/10.1007/BF00992696
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

__all__ = [
    "EdgeGates",
    "GroupedMLP",
    "NoiseMap",
    "acyclicity",
    "full_precision",
    "result_dtype",
    "strongest_dag",
    "truncated_logistic",
    "wide_dtype",
    "with_column",
]

SPLINE_BOUND = 5.0
# Spline slopes stay in [0.2, 5]: steeper ones cost digits in the inverse and let a mechanism
# that is deterministic undercut the floor of its scale.
SPLINE_SLOPE = 0.2
# An abducted logistic stays this far from the threshold, so that rounding cannot flip it.
LOGISTIC_MARGIN = 1e-3
# In nats: a factor fitted to its floor gains about 5, and a rare outlier must not outvote a batch.
ADVANTAGE_CLIP = 5.0


class GroupedMLP(nn.Module):
    """G separate perceptrons of one architecture, evaluated as batched matrix products.

    The activation is ReLU on purpose: structural equations have kinks (clipped lengths, absolute
    values) that smooth activations round off. On Pendulum's shadow length SiLU stalled at a mean
    error of .018 where ReLU of the same size reached .001.

    Args:
        groups: number G of perceptrons.
        sizes: layer widths, inputs first, outputs last.
    """

    def __init__(self, groups: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5
            self.weights.append(nn.Parameter(torch.empty(groups, fan_in, fan_out)))
            self.biases.append(nn.Parameter(torch.empty(groups, 1, fan_out)))
            nn.init.uniform_(self.weights[-1], -bound, bound)
            nn.init.uniform_(self.biases[-1], -bound, bound)

    def forward(self, x: Tensor, group: int | None = None) -> Tensor:
        """``[G, B, in]`` to ``[G, B, out]`` in the dtype of ``x``; with ``group``, G is 1."""
        chosen = slice(None) if group is None else slice(group, group + 1)
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.relu(x) if n else x
            x = torch.baddbmm(bias[chosen].to(x.dtype), x, weight[chosen].to(x.dtype))
        return x


# --- continuous factors ---


class NoiseMap:
    r"""The map :math:`u = g((z - \mu) / \sigma)` from factor to exogenous value, and its inverse.

    :math:`\sigma` is at least ``floor``, so the likelihood of a factor that its parents determine
    stays bounded. Beyond :data:`SPLINE_BOUND` the spline g is the identity, so an outlier is
    carried along additively.

    Args:
        location: ``[...]`` :math:`\mu`.
        shape: ``[..., 3 * bins]`` unconstrained scale, bin widths, bin heights, knot slopes.
        floor: least :math:`\sigma`, in factor units.
    """

    def __init__(self, location: Tensor, shape: Tensor, floor: float) -> None:
        bins = shape.shape[-1] // 3
        scale, widths, heights, slopes = shape.split([1, bins, bins, bins - 1], dim=-1)
        self.location = location
        # softplus(-1) = 0.31, about the spread of a factor in [0, 1]
        self.scale = floor + F.softplus(scale.squeeze(-1) - 1)
        self.spline = MonotonicRQSTransform(
            widths, heights, slopes, bound=SPLINE_BOUND, slope=SPLINE_SLOPE
        )

    def to_noise(self, z: Tensor) -> Tensor:
        return self.spline((z - self.location) / self.scale)

    def to_factor(self, u: Tensor) -> Tensor:
        return self.location + self.scale * self.spline.inv(u)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z when u ~ N(0, 1)."""
        u, ladj = self.spline.call_and_ladj((z - self.location) / self.scale)
        return -0.5 * (u.square() + math.log(2 * math.pi)) + ladj - self.scale.log()


# --- binary factors ---


def truncated_logistic(
    logits: Tensor, positive: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Sample a logistic u given that :math:`[\mathrm{logit} + u > 0]` equals ``positive``.

    This is Gumbel-max abduction: u is the difference of the two classes' Gumbel variables.

    Args:
        logits: ``[...]`` log odds of the value 1.
        positive: ``[...]`` bool, the observed value.
        generator: source of randomness, on the device of ``logits``.
    """
    sign = torch.where(positive, 1.0, -1.0).to(logits.dtype)
    uniform = torch.rand(
        logits.shape, dtype=logits.dtype, device=logits.device, generator=generator
    ).clamp(1e-12, 1 - 1e-6)
    # By symmetry sample s·u > -s·logit: its tail probability is uniform in (0, σ(s·logit)).
    log_tail = uniform.log() + F.logsigmoid(sign * logits)
    above = torch.log1p(-log_tail.exp()) - log_tail
    return sign * above.maximum(LOGISTIC_MARGIN - sign * logits)


# --- graphs ---


def acyclicity(adjacency: Tensor) -> Tensor:
    """NOTEARS' ``h = tr(exp(A∘A)) - K`` of ``[K, K]`` weights: 0 if and only if A is acyclic."""
    return torch.linalg.matrix_exp(adjacency.square()).diagonal().sum() - len(adjacency)


def strongest_dag(strength: Tensor, threshold: float = 0.5) -> Tensor:
    """Edges above ``threshold`` from strong to weak, without those that would close a cycle.

    So every cycle loses its weakest edge. ``[K, K]`` to ``[K, K]`` bool, ``[i, j]``: j causes i.
    """
    weights = strength.detach().cpu()
    # reach[i, j]: j is i or an ancestor of i
    reach = torch.eye(len(weights), dtype=torch.bool)
    kept = torch.zeros_like(reach)
    for flat in weights.flatten().argsort(descending=True, stable=True).tolist():
        effect, cause = divmod(flat, len(weights))
        if weights[effect, cause] <= threshold:
            break
        if not reach[cause, effect]:
            kept[effect, cause] = True
            reach |= reach[:, effect, None] & reach[cause]
    return kept.to(strength.device)


class EdgeGates(nn.Module):
    """A learned distribution over the edges between ``size`` factors; independent per edge."""

    _off_diagonal: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size, size))
        self.register_buffer("_off_diagonal", 1 - torch.eye(size), persistent=False)

    def probabilities(self) -> Tensor:
        """``[K, K]`` probability that j causes i, 0 on the diagonal."""
        return torch.sigmoid(self.logits.float()) * self._off_diagonal

    def sample(self, batch: int) -> Tensor:
        """``[B, K, K]`` independent draws of 0/1 gates; no gradient."""
        return torch.bernoulli(self.probabilities().detach().expand(batch, -1, -1))

    def score(self, gates: Tensor, log_prob: Tensor) -> Tensor:
        """Scalar whose gradient raises the edges under which factors are likelier (REINFORCE).

        Row i of the gates bears on factor i alone, and the batch mean is the baseline: so the
        estimate has little variance; straight-through gradients found hardly an edge.

        Args:
            gates: ``[B, K, K]`` from :meth:`sample`.
            log_prob: ``[B, K]`` likelihood of each factor under its sample's gates.
        """
        advantage = (log_prob - log_prob.mean(0)).detach().clamp(-ADVANTAGE_CLIP, ADVANTAGE_CLIP)
        logits = self.logits.float().expand_as(gates)
        taken = -F.binary_cross_entropy_with_logits(logits, gates, reduction="none")
        return (advantage * (taken * self._off_diagonal).sum(-1)).mean()

    def penalties(self) -> dict[str, Tensor]:
        """Scalars ``acyclicity`` and ``sparsity`` (the expected number of edges)."""
        probabilities = self.probabilities()
        return {"acyclicity": acyclicity(probabilities), "sparsity": probabilities.sum()}


# --- numerics ---


def full_precision(like: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of ``like``."""
    return torch.autocast(like.device.type, enabled=False)


def wide_dtype(like: Tensor) -> torch.dtype:
    """float64, or float32 on a device that has no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def result_dtype(like: Tensor) -> torch.dtype:
    """The dtype of ``like``, but at least float32."""
    return torch.promote_types(like.dtype, torch.float32)


def with_column(matrix: Tensor, k: int, column: Tensor) -> Tensor:
    """``matrix`` with its column k replaced, out of place so that gradients pass."""
    return torch.cat([matrix[:, :k], column[:, None], matrix[:, k + 1 :]], dim=1)
