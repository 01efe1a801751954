r"""How far the marginals that a causal model draws are from a scene's true ones.

Nothing is set, or one factor is: the true distribution of the others is then that of the scene's
counterfactuals of all its images (the noise is as it is in the data, the factor is set). The
distance of two distributions over bins is their total variation,
:math:`\tfrac12 \sum_b |p_b - q_b|`, in [0, 1]. Bins are the levels of a discrete factor, the values
of a number that takes few, and else deciles of the truth. No image is drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal import (
    CausalGraph,
    Intervention,
    RootQuantiles,
    StructuralModel,
    TrueModel,
    row_keys,
)
from diffcf.methods import draw_factors

BINS, FEW = 10, 20
LEAST = 0.01  # of a factor's range, between a value and the end of its bin
BATCH = 4096
QUANTILES = (0.25, 0.75)
"""Of a number, to which it is set in turn."""


def marginal_distances(
    nscm: StructuralModel,
    scene: TrueModel,
    factors: Tensor,
    count: int,
    seed: int = 0,
    roots: RootQuantiles | None = None,
) -> dict[str, dict[str, float]]:
    """Total variation of each factor's marginal, by intervention (``do()``, ``do(light = 1.2)``).

    Left out are the factor that is set and, under interventions, numbers whose counterfactual the
    scene does not determine.

    Args:
        nscm: the causal model.
        scene: the true model.
        factors: ``[N, K]`` in [0, 1] of all images of a split, without missing ones.
        count: how many rows the causal model draws.
        seed: of what it draws.
        roots: see :func:`diffcf.methods.draw_factors`.
    """
    graph = scene.graph
    keys = row_keys(torch.arange(count), seed)
    found = {}
    for name, do in {"do()": None, **_interventions(graph, factors)}.items():
        drawn = _drawn(nscm, keys, do, roots)
        truth, known = factors, torch.ones(len(graph), dtype=torch.bool)
        if do is not None:
            values, mask = do.values.expand_as(factors), do.mask.expand_as(factors)
            truth = scene.counterfactual(factors, values, mask)
            known = ~do.mask[0] & (graph.discrete | scene.identified)
        found[name] = {
            graph.names[column]: total_variation(
                graph, column, drawn[:, column].contiguous(), truth[:, column].contiguous()
            )
            for column in known.nonzero()[:, 0].tolist()
        }
    return found


def total_variation(graph: CausalGraph, column: int, drawn: Tensor, truth: Tensor) -> float:
    """Of values ``[M]`` and true values ``[N]`` of one factor, in [0, 1] units.

    True values of a binary factor may be probabilities of 1.
    """
    factor = graph.factors[column]
    if factor.kind == "binary":
        return abs(drawn.round().double().mean() - truth.double().mean()).item()
    if factor.levels is not None:
        top = factor.levels - 1
        p, q = ((x * top).round().long().bincount(minlength=top + 1) for x in (drawn, truth))
    else:
        edges = _edges(truth)
        p, q = (
            torch.bucketize(x, edges).bincount(minlength=len(edges) + 1) for x in (drawn, truth)
        )
    return (0.5 * (p / len(drawn) - q / len(truth)).abs().sum()).item()


def _edges(truth: Tensor) -> Tensor:
    """Ends of bins: behind each value, if they are few, and else behind each inner decile.

    That is halfway to the next value, but not too close behind: part of the data may have one value
    exactly, which a density draws with some width.
    """
    values = truth.unique()
    ends = values[:-1]
    if len(values) > FEW:
        deciles = torch.linspace(0, 1, BINS + 1)[1:-1].to(truth)
        ends = truth.quantile(deciles, interpolation="lower").unique()
    after = values[torch.searchsorted(values, ends, right=True).clamp(max=len(values) - 1)]
    return ends + ((after - ends) / 2).clamp_min(LEAST)


def _interventions(graph: CausalGraph, factors: Tensor) -> dict[str, Intervention]:
    """Each factor set to each of its levels, or to quartiles of the data; ``[1, K]``."""
    found = {}
    for column, factor in enumerate(graph.factors):
        values = factors[:, column].quantile(torch.tensor(QUANTILES).to(factors))
        if factor.levels is not None:
            values = torch.linspace(0, 1, factor.levels)
        mask = torch.arange(len(graph)) == column
        for value in values.tolist():
            title = f"do({factor.name} = {factor.text(value)})"
            found[title] = Intervention(torch.where(mask, value, 0.0)[None], mask[None])
    return found


@torch.no_grad()
def _drawn(
    nscm: StructuralModel, keys: Tensor, do: Intervention | None, roots: RootQuantiles | None
) -> Tensor:
    """``[M, K]`` on the processor."""
    parts = []
    for part in keys.split(BATCH):
        size = (len(part), len(nscm.graph))
        some = None if do is None else Intervention(do.values.expand(size), do.mask.expand(size))
        parts.append(draw_factors(nscm, part, some, roots)[0])
    return torch.cat(parts)
