"""Overlap: whether the data have what an intervention sets, beside the causes it leaves alone.

Hardly a photograph shows a woman with a beard. Whatever learned from photographs has not seen what
do(beard) asks of a woman's, and extrapolates: causal inference calls it a lack of overlap, or of
positivity (Hernán & Robins, Causal Inference: What If, 2020, chapter 3). What a beard changes in a
face is in the data all the same, of men. So the change is taken from there: between two images that
differ in what is set, *both* of other causes, beside which it is not rare. That it looks alike
beside both is an assumption, which the data cannot confirm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diffcf.causal.factor import ROUNDING, Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.interface import StructuralModel
from diffcf.causal.mechanisms import with_column

RARE = 0.01
"""The probability below which a binary factor's value is rare."""


def rare(factor: Factor) -> float:
    """The probability below which a value of a discrete factor is rare.

    >>> rare(Factor("beard", "binary"))
    0.01
    >>> rare(Factor("digit", "categorical", categories=tuple("0123456789")))
    0.002
    """
    return 2 * RARE / (factor.levels or 2)


@torch.no_grad()
def likely_context(
    nscm: StructuralModel, factual: Tensor, target: Tensor, is_set: Tensor, least: float
) -> Tensor:
    """Factors ``[B, K]`` beside which what is set has a probability of ``least`` or more.

    They are the ``factual`` ones, but for one cause of each discrete factor that is set to what its
    causes make less probable than that: the one, of those that are discrete and that the
    intervention leaves alone, whose other value makes it most probable. Where none makes it
    probable enough, and of what is not set anew, nothing differs.

    Args:
        nscm: gives the probabilities.
        factual: ``[B, K]`` in [0, 1] units.
        target: the counterfactual ones, ``[B, K]``.
        is_set: which the intervention sets, ``[B, K]`` (bool).
        least: a probability in (0, 1].
    """
    graph = nscm.graph
    moved = graph.reached(is_set)
    context = factual
    for k, others in _discrete_causes(graph):
        given = torch.where(moved, target, context)
        asked = is_set[:, k] & (target[:, k] != factual[:, k])
        changed, allowed = [given], [torch.ones_like(asked)]
        for j, level in others:
            changed.append(with_column(given, j, torch.full_like(given[:, j], level)))
            allowed.append(~moved[:, j])
        found = torch.cat(changed).to(factual.dtype)
        likely = nscm.log_prob(found)[:, k].view(len(changed), -1)
        likely = likely.masked_fill(~torch.stack(allowed), -math.inf)
        best, which = likely.max(dim=0)
        taken = asked & (likely[0] < math.log(least)) & (best >= math.log(least))
        rows = torch.arange(len(factual), device=factual.device)
        chosen = torch.stack(changed)[which, rows]
        context = torch.where(taken[:, None] & ~moved, chosen, context)
    return context


@torch.no_grad()
def extrapolated(nscm: StructuralModel, factual: Tensor, target: Tensor, is_set: Tensor) -> Tensor:
    """Which discrete factors are set anew to what their causes hardly ever come with, ``[B, K]``.

    Hardly ever is with a :func:`rare` probability by ``nscm``; ``factual``, ``target`` and
    ``is_set`` ``[B, K]`` are as in :func:`likely_context`.
    """
    graph = nscm.graph
    anew = is_set & (target != factual) & graph.discrete.to(is_set.device)
    likely = nscm.log_prob(target.clamp(0, 1))
    return anew & (likely < likely.new_tensor([rare(factor) for factor in graph.factors]).log())


def extrapolation(graph: CausalGraph, name: str) -> str:
    """What to say of a factor that is :func:`extrapolated`, for people."""
    factor, causes = graph.factors[graph.column(name)], " and ".join(graph.parents(name))
    beside = f"beside the same {causes}" if causes else "at all"
    return (
        f"{name} is set to what the data hardly ever have {beside} (a probability below "
        f"{rare(factor):g} by the causal model): the picture extrapolates."
    )


def _discrete_causes(graph: CausalGraph) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Discrete factors that have discrete causes, and the columns and values of these."""
    for k, factor in enumerate(graph.factors):
        causes = [graph.factors[graph.column(name)] for name in graph.parents(factor.name)]
        values = [
            (graph.column(cause.name), level / (cause.levels - 1))
            for cause in causes
            if not cause.continuous and cause.levels is not None
            for level in range(cause.levels)
        ]
        if not factor.continuous and values:
            yield k, values


def lacks_overlap(graph: CausalGraph, labels: Tensor, factors: Tensor, column: int) -> Tensor:
    """Where a discrete factor has a value that its causes hardly ever come with, bool ``[B]``.

    Hardly ever is in a :func:`rare` share of those images of a set whose causes are the same. False
    everywhere for factors that are continuous, or have a cause that is.

    Args:
        graph: the factors.
        labels: of the set, ``[N, K]`` in [0, 1] units.
        factors: asked about, ``[B, K]``.
        column: of the factor.

    >>> from diffcf.causal import Factor
    >>> factors = [Factor("male", "binary"), Factor("beard", "binary")]
    >>> graph = CausalGraph(factors, [("male", "beard")])
    >>> people = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> lacks_overlap(graph, people, torch.tensor([[0.0, 1.0], [1.0, 1.0]]), 1)
    tensor([ True, False])
    """
    names = graph.names[column], *graph.parents(graph.names[column])
    columns = [graph.column(name) for name in names]
    if any(graph.factors[k].continuous for k in columns):
        return torch.zeros(len(factors), dtype=torch.bool, device=factors.device)
    same = (labels.to(factors)[:, columns] - factors[:, None, columns]).abs() < ROUNDING
    alike = same[:, :, 1:].all(dim=2)
    share = (alike & same[:, :, 0]).sum(dim=1) / alike.sum(dim=1).clamp(min=1)
    return share < rare(graph.factors[column])
