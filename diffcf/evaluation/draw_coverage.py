r"""Do draws of a counterfactual cover what could have been? Measured where a scene knows.

Where mechanisms are random, one image has many right counterfactuals. A scene with binary factors
knows how likely each effect is 1 in an image, given its factual factors
(:meth:`diffcf.causal.TrueModel.counterfactual`); the causal model draws effects from its own
posterior of the exogenous noise. No image is drawn for either.

Of p, the true probability of 1, and q, the share of 1 among an image's draws, ``draws/gap`` is the
mean of :math:`|q - p|`; ``draws/energy`` that of the energy distance of the two distributions
(Székely & Rizzo, 2013, https://doi.org/10.1016/j.jspi.2013.03.018), which is
:math:`2 (q - p)^2` here; ``draws/coverage`` how likely the truth lies in the draws' central 90%
interval, p for 1 and 1 − p for 0 as far as the interval holds them. Means are over images,
interventions and effects.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, StructuralModel, TrueModel, row_keys
from diffcf.methods import central_interval

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
    low, high = central_interval(z, LEVEL)
    covered = p * (high == 1) + (1 - p) * (low == 0)
    return {
        "draws/coverage": float(covered.mean()),
        "draws/gap": float((q - p).abs().mean()),
        "draws/energy": float(2 * (q - p).square().mean()),
    }


def _binary_effects(graph: CausalGraph, cause: str) -> list[int]:
    effects = (graph.column(name) for name in graph.descendants(cause))
    return sorted(column for column in effects if graph.factors[column].kind == "binary")
