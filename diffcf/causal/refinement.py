r"""Refinement: an uncertain reading of the factors, corrected by the causal model.

A projector reads :math:`z_k = \hat z_k \pm \sigma_k`. Were that abducted as it is, its error would
pass for exogenous noise and enter every counterfactual. But the causal model knows which values are
likely given the causes, so the reading is replaced by the mean of

.. math::
    p(z_k \mid x, pa_k) \propto N(\hat z_k;\, z_k, \sigma_k^2)
    \,\big[(1 - \delta)\, p(z_k \mid pa_k) + \delta\big],

factor by factor in causal order. A mechanism that is nearly certain corrects the reading, and a
wide one leaves it alone. The *contamination* δ is the probability that the factor does not follow
its mechanism, because somebody set it before the picture was taken or because the mechanism is
wrong: then any value of its range is as likely, and a reading far from the mechanism's value stays.
Discrete factors and roots stay as they are read.

What the reading leaves open can be drawn as well: factor by factor, a value of the distribution
above in place of its mean, given the causes that were drawn before; of roots one of
:math:`N(\hat z_k, \sigma_k^2)`, of discrete factors one of the probabilities that are read.

Our addition; the paper abducts the reading itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffcf.causal.equations import StructuralEquations
from diffcf.causal.graph import CausalGraph
from diffcf.causal.interface import StructuralModel
from diffcf.causal.marks import filled
from diffcf.causal.mechanisms import with_column

CONTAMINATION = 0.5
"""On Pendulum and Flow as good as less, and safer for pictures in which a factor was set."""
CERTAIN = 1e-12  # variance of what is observed: not 0, for the grid of values has this width
POINTS, REACH = 513, 4.0  # grid of values around the reading, up to so many standard deviations


def refine(
    equations: StructuralEquations,
    adjacency: Tensor,
    effects: Sequence[int],
    factors: Tensor,
    deviation: Tensor,
    contamination: float,
    noise: Tensor | None = None,
) -> Tensor:
    """Refined ``factors`` ``[B, K]`` in [0, 1] units, read with a standard ``deviation`` like them.

    ``adjacency`` ``[K, K]`` (bool, ``[i, j]``: j is a parent of i) and ``effects`` (columns that
    have parents, causes first) are the graph's. With uniform ``noise`` ``[B, K]`` continuous
    effects are drawn.
    """
    offsets = torch.linspace(-REACH, REACH, POINTS, dtype=factors.dtype, device=factors.device)
    log_follows = math.log1p(-contamination) if contamination < 1 else -math.inf
    with_delta = math.log(contamination) if contamination > 0 else -math.inf
    log_contamination = offsets.new_full((), with_delta)
    for k in effects:
        if equations.kinds[k] == "continuous":
            values = factors[:, k, None] + deviation[:, k, None] * offsets
            density = equations.log_density(values, factors, adjacency, k)
            log_prior = torch.logaddexp(density + log_follows, log_contamination)
            weight = (log_prior - 0.5 * offsets.square()).softmax(dim=1)
            column = (weight * values).sum(dim=1)
            if noise is not None:
                share = weight.cumsum(dim=1)
                place = torch.searchsorted(share, noise[:, k, None].to(share).contiguous())
                column = values.gather(1, place.clamp(max=POINTS - 1))[:, 0].clamp(0, 1)
            factors = with_column(factors, k, column)
    return factors


def drawn_reading(graph: CausalGraph, code: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Factors ``[B, K]`` drawn from a reading alone, by uniform ``noise`` ``[B, K]``.

    ``code`` and ``variance`` ``[B, E]`` are the reading's; what is continuous stays in its range.
    """
    inside = noise.clamp(1e-6, 1 - 1e-6).to(code)
    columns = []
    parts = torch.split(code, graph.widths, dim=1), torch.split(variance, graph.widths, dim=1)
    for factor, mean, spread, u in zip(graph.factors, *parts, inside.unbind(1), strict=True):
        if factor.categories:
            above = u[:, None] >= mean.cumsum(dim=1)[:, :-1]
            column = above.sum(dim=1).to(code) / (factor.width - 1)
        elif factor.kind == "binary":
            column = (u < mean[:, 0]).to(code)
        else:
            column = (mean[:, 0] + spread[:, 0].sqrt() * torch.special.ndtri(u)).clamp(0, 1)
        columns.append(column)
    return torch.stack(columns, dim=1)


def completed(
    nscm: StructuralModel,
    code: Tensor,
    variance: Tensor,
    observed: Tensor,
    contamination: float,
    noise: Tensor | None = None,
) -> Tensor:
    """Factors ``[B, K]``: the ``observed`` ones and, where these are NaN, the refined reading.

    ``code`` and ``variance`` ``[B, E]`` are the reading's. What is observed of the causes refines
    the reading of their effects. With uniform ``noise`` ``[B, K]`` what is not observed is drawn.
    """
    graph, observed = nscm.graph, observed.to(code)
    values, known = filled(observed)
    columns = graph.per_column(known)
    code = torch.where(columns, graph.encode(values), code)
    variance = torch.where(columns, CERTAIN, variance)
    more = () if noise is None else (noise,)
    return torch.where(known, observed, nscm.refine(code, variance, contamination, *more))
