r"""Do draws of a counterfactual cover what could have been? Measured where a scene knows.

Where mechanisms are random, one image has many right counterfactuals. A scene with binary factors
knows how likely each effect is 1 in an image, given its factual factors
(:meth:`diffcf.causal.TrueModel.counterfactual`); the causal model draws effects from its own
posterior of the exogenous noise. No image is drawn for either.

Of p, the true probability of 1, and q, the share of 1 among an image's draws, ``draws/gap`` is the
mean of :math:`|q - p|`; ``draws/energy`` that of the energy distance of the two distributions
(Székely & Rizzo, 2013, https://doi.org/10.1016/j.jspi.2013.03.018), which is
:math:`2 (q - p)^2` here; ``draws/coverage`` how likely the truth lies in the draws' central 90%
interval. Means are over images, interventions and effects.

An interval of two values holds both, or one that is nearly certain, and covers too much by itself.
So the truth's place among the draws is randomised, as for counts: uniform in [0, 1 − q] where it
is 0 and in [1 − q, 1] where it is 1. Where q = p, it lies within the central 90% of [0, 1] in 90%
of the cases.

Reference:
    Predictive model assessment for count data (Czado et al., 2009),
    https://doi.org/10.1111/j.1541-0420.2009.01191.x
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, StructuralModel, TrueModel, row_keys

DRAWS = 100
LEVEL = 0.9


@torch.no_grad()
def draw_coverage(
    nscm: StructuralModel, scene: TrueModel, factors: Tensor, seed: int = 0, draws: int = DRAWS
) -> dict[str, float]:
    """``draws/coverage``, ``draws/gap`` and ``draws/energy``; empty where no effect is binary.

    Every binary factor is set to its other value.

    Args:
        nscm: the causal model.
        scene: whose factors alone do not determine the counterfactual.
        factors: ``[N, K]`` of the images, on the model's device.
        seed: of the draws.
        draws: of each counterfactual.
    """
    graph = scene.graph
    rows = row_keys(torch.arange(len(factors), device=factors.device), seed)
    noise = [nscm.abduct(factors, row_keys(rows, draw)) for draw in range(draws)]
    chances, drawn = [], []
    for cause in graph.names:
        effects = _binary_effects(graph, cause)
        if not effects or graph.factors[graph.column(cause)].kind != "binary":
            continue
        mask = torch.zeros_like(factors, dtype=torch.bool)
        mask[:, graph.column(cause)] = True
        values = 1 - factors.round()
        chances.append(scene.counterfactual(factors, values, mask)[:, effects].flatten())
        each = [nscm.predict(factors, u, values, mask)[:, effects].flatten() for u in noise]
        drawn.append(torch.stack(each).round())
    if not drawn:
        return {}
    p, z = torch.cat(chances).double(), torch.cat(drawn, dim=1).double()
    q = z.mean(dim=0)
    return {
        "draws/coverage": float(_covered(p, q).mean()),
        "draws/gap": float((q - p).abs().mean()),
        "draws/energy": float(2 * (q - p).square().mean()),
    }


def _covered(p: Tensor, q: Tensor) -> Tensor:
    """How likely the randomised place of the truth lies in the central interval, of ``p``'s shape.

    >>> _covered(torch.tensor([0.5, 0.5, 1.0]), torch.tensor([0.5, 1.0, 0.0]))
    tensor([0.9000, 0.4500, 0.0000])
    """
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    zeros = (torch.minimum(1 - q, q.new_tensor(high)) - low).clamp_min(0) / (1 - q)
    ones = (high - torch.maximum(1 - q, q.new_tensor(low))).clamp_min(0) / q
    zeros, ones = (torch.where(part.isfinite(), part, 0.0) for part in (zeros, ones))
    return (1 - p) * zeros + p * ones


def _binary_effects(graph: CausalGraph, cause: str) -> list[int]:
    effects = (graph.column(name) for name in graph.descendants(cause))
    return sorted(column for column in effects if graph.factors[column].kind == "binary")
