"""What a trained NSCM says of its mechanisms: curves of every edge, and how strong it is.

All of it is asked of the NSCM alone. Its own draws (exogenous noise, decoded) stand for the data
that it was trained on: the other parents of a curve stand at their median there, or their most
frequent level, and effects are averaged over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Generator, Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM

DRAWS = 1024
POINTS, TRIED = 33, 5  # values of a continuous cause, for its curve and its effect
BAND = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class EdgeCurve:
    """How an effect follows one of its causes, its other causes held where most of the data lie.

    Attributes:
        cause, effect: factor names.
        values: of the cause, ``[P]`` in [0, 1] units; its levels where it is discrete.
        response: ``[P, 3]``, the effect's 10%, 50% and 90% quantile in [0, 1] units, where it is
            continuous; ``[P, levels]``, the probability of each level, where it is discrete.
        strength: see :func:`total_effect`.
        greatest: the same between the two values of the cause that differ most in effect: an
            effect that rises and falls again may end where it began.
        probability: of the edge, where the graph was learned; else None.
    """

    cause: str
    effect: str
    values: Tensor
    response: Tensor
    strength: float
    greatest: float
    probability: float | None = None


@torch.no_grad()
def edge_curves(nscm: NSCM, draws: int = DRAWS, seed: int = 0) -> list[EdgeCurve]:
    """A curve for every edge, by effect in causal order.

    Args:
        nscm: the trained model, in evaluation mode.
        draws: of its exogenous noise.
        seed: of the draws.
    """
    graph = nscm.learned()
    device = next(nscm.parameters()).device
    noise = prior_noise(graph, draws, Generator().manual_seed(seed)).to(device)
    factors = nscm.decode(noise)
    learned = None if nscm.gates is None else nscm.gates.probabilities()
    curves = []
    for effect in graph.order:
        for cause in graph.parents(effect):
            values = levels(graph.factors[graph.column(cause)]).to(device)
            curves.append(
                EdgeCurve(
                    cause,
                    effect,
                    values.cpu(),
                    _response(nscm, graph, factors, noise, (cause, effect), values).cpu(),
                    *total_effect(nscm, factors, noise, cause, effect),
                    None
                    if learned is None
                    else float(learned[graph.column(effect), graph.column(cause)]),
                )
            )
    return curves


@torch.no_grad()
def total_effect(
    nscm: NSCM, factors: Tensor, noise: Tensor, cause: str, effect: str
) -> tuple[float, float]:
    """Mean absolute change of ``effect``, in [0, 1] units, when ``cause`` is set from low to high.

    The noise is held, and what lies between cause and effect follows. A changed category counts as
    a change of 1. A categorical cause has no low and high: of all its pairs of categories, the one
    with the greatest change is taken.

    Args:
        nscm: the trained model.
        factors: ``[N, K]``, what it draws.
        noise: ``[N, E]`` of them.
        cause, effect: factor names.

    Returns:
        From low to high, and the greatest between any two of a few values.
    """
    graph = nscm.graph
    column, reached = graph.column(cause), graph.factors[graph.column(effect)]
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, column] = True
    values = levels(graph.factors[column])
    if graph.factors[column].kind == "continuous":
        values = values[:: (POINTS - 1) // (TRIED - 1)]
    answers = []
    for value in values:
        imposed = torch.full_like(factors, float(value))
        answers.append(nscm.predict(factors, noise, imposed, mask)[:, graph.column(effect)])
    changes = {
        (a, b): float(_change(reached, answers[a], answers[b]).mean())
        for a, b in combinations(range(len(answers)), 2)
    }
    greatest = max(changes.values())
    ordered = not graph.factors[column].categories
    return (changes[0, len(answers) - 1] if ordered else greatest), greatest


def prior_noise(graph: CausalGraph, count: int, generator: Generator) -> Tensor:
    """Exogenous noise ``[count, E]``: normal, logistic (binary) or Gumbel (categorical)."""
    columns = []
    for factor in graph.factors:
        if factor.kind == "continuous":
            columns.append(torch.randn(count, 1, generator=generator))
            continue
        uniform = torch.rand(count, factor.width, generator=generator).clamp(1e-6, 1 - 1e-6)
        gumbel = -(-uniform.log()).log()
        columns.append(gumbel if factor.categories else uniform.logit())
    return torch.cat(columns, dim=1)


def levels(factor: Factor) -> Tensor:
    """Values of a factor in [0, 1] units: its levels, or points spread evenly."""
    count = POINTS if factor.kind == "continuous" else max(factor.width, 2)
    return torch.linspace(0, 1, count)


def _response(
    nscm: NSCM,
    graph: CausalGraph,
    factors: Tensor,
    noise: Tensor,
    edge: Sequence[str],
    values: Tensor,
) -> Tensor:
    """See :class:`EdgeCurve`."""
    cause, effect = (graph.column(name) for name in edge)
    middle = torch.where(
        graph.discrete.to(factors.device), factors.mode(0)[0], factors.median(0)[0]
    )
    held = middle.repeat(len(factors), 1).double()
    rows = []
    for value in values:
        held[:, cause] = value
        # The effect's own mechanism alone: it is asked of nothing but its causes and its noise.
        answer = nscm.equations.factor(held, noise.double(), nscm.adjacency, effect)
        rows.append(_summary(graph.factors[effect], answer))
    return torch.stack(rows)


def _summary(factor: Factor, answer: Tensor) -> Tensor:
    if factor.kind == "continuous":
        return torch.quantile(answer, answer.new_tensor(BAND))
    count = max(factor.width, 2)
    place = (answer * (count - 1)).round().long().clamp(0, count - 1)
    return torch.bincount(place, minlength=count) / len(answer)


def _change(factor: Factor, one: Tensor, other: Tensor) -> Tensor:
    changed = (one - other).abs()
    return (changed > 1e-6).to(changed.dtype) if factor.categories else changed
