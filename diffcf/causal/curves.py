"""The mechanisms of a trained NSCM for people: a curve for every edge, and how strong it is.

Only the NSCM is needed. Its own samples (exogenous noise, decoded) stand for the training data: the
other parents of a curve are held at their median (discrete ones at their mode), and effects are
averaged over the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM

SAMPLES = 1024
POINTS, TRIED = 33, 5  # values of a continuous cause, for its curve and its effect
BAND = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class EdgeCurve:
    """How an effect follows one of its causes, with its other causes held.

    Attributes:
        cause, effect: factor names.
        values: of the cause, ``[P]`` in [0, 1] units; its levels where it is discrete.
        response: ``[P, 3]``, the effect's 10%, 50% and 90% quantile in [0, 1] units, where it is
            continuous; ``[P, levels]``, the probability of each level, where it is discrete.
        strength: see :func:`total_effect`.
        greatest: the same between the two values of the cause that differ most in effect: an
            effect that rises and falls again may end where it began.
        probability: of the edge, where it was learned; else None.
    """

    cause: str
    effect: str
    values: Tensor
    response: Tensor
    strength: float
    greatest: float
    probability: float | None = None


@torch.no_grad()
def edge_curves(nscm: NSCM, draws: int = SAMPLES, seed: int = 0) -> list[EdgeCurve]:
    """A curve for every edge, by effect in causal order.

    ``nscm`` is in evaluation mode; ``draws`` is the number of samples of its exogenous noise.
    """
    graph, device = nscm.learned(), next(nscm.parameters()).device
    exogenous = prior_noise(graph, draws, Generator().manual_seed(seed)).to(device)
    factors = nscm.decode(exogenous)
    curves = []
    for effect in graph.order:
        for cause in graph.parents(effect):
            i, j = graph.column(effect), graph.column(cause)
            values = levels(graph.factors[j])
            response = _response(nscm, factors, exogenous, j, i, values).cpu()
            changes = total_effect(nscm, factors, exogenous, cause, effect)
            probability = None
            if nscm.gates is not None and (cause, effect) not in graph.known:
                probability = float(nscm.gates.probabilities()[i, j])
            curves.append(EdgeCurve(cause, effect, values, response, *changes, probability))
    return curves


def total_effect(
    nscm: NSCM, factors: Tensor, exogenous: Tensor, cause: str, effect: str
) -> tuple[float, float]:
    """Mean absolute change of ``effect``, in [0, 1] units, when ``cause`` is set from low to high.

    Exogenous values ``[N, E]`` of the samples ``[N, K]`` are held, and factors between cause and
    effect follow. A changed category counts as a change of 1. A categorical cause has no low and
    high: of all its pairs of categories, the one with the greatest change is taken.

    Returns:
        From low to high, and the greatest between any two of a few values.
    """
    i, j = nscm.graph.column(effect), nscm.graph.column(cause)
    changed, affected = nscm.graph.factors[j], nscm.graph.factors[i]
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, j] = True
    values = levels(changed)
    if changed.continuous:
        values = values[:: (POINTS - 1) // (TRIED - 1)]
    imposed = (torch.full_like(factors, float(value)) for value in values)
    outcomes = [nscm.predict(factors, exogenous, each, mask)[:, i] for each in imposed]
    changes = [(one - other).abs() for one, other in combinations(outcomes, 2)]
    if affected.categories:
        changes = [(change > 1e-6).float() for change in changes]
    means = [float(change.mean()) for change in changes]
    greatest = max(means)
    low_to_high = means[len(outcomes) - 2]  # the first of all pairs with the last
    return greatest if changed.categories else low_to_high, greatest


def prior_noise(graph: CausalGraph, count: int, generator: Generator) -> Tensor:
    """Exogenous noise ``[count, E]``: normal, logistic (binary) or Gumbel (categorical)."""
    columns = []
    for factor in graph.factors:
        if factor.continuous:
            columns.append(torch.randn(count, 1, generator=generator))
        else:
            uniform = torch.rand(count, factor.width, generator=generator).clamp(1e-6, 1 - 1e-6)
            columns.append(-(-uniform.log()).log() if factor.categories else uniform.logit())
    return torch.cat(columns, dim=1)


def levels(factor: Factor) -> Tensor:
    """Values of a factor in [0, 1] units: its levels, or points spread evenly."""
    count = POINTS if factor.continuous else max(factor.width, 2)
    return torch.linspace(0, 1, count)


def _response(
    nscm: NSCM, factors: Tensor, exogenous: Tensor, cause: int, effect: int, values: Tensor
) -> Tensor:
    """``EdgeCurve.response``, from the effect's own mechanism alone."""
    discrete = nscm.graph.discrete.to(factors.device)
    middle = torch.where(discrete, factors.mode(0)[0], factors.median(0)[0])
    held = middle.repeat(len(factors), 1).double()
    outcomes, noise = [], exogenous.double()
    for value in values:
        held[:, cause] = value
        outcomes.append(nscm.equations.evaluate(held, noise, nscm.adjacency, effect))
    outcome, factor = torch.stack(outcomes), nscm.graph.factors[effect]  # [P, N]
    if factor.continuous:
        return torch.quantile(outcome, outcome.new_tensor(BAND), dim=1).T
    count = max(factor.width, 2)
    level = (outcome * (count - 1)).round().long().clamp(0, count - 1)
    return one_hot(level, count).sum(dim=1) / len(factors)
