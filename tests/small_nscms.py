"""Small graphs, and NSCMs over them that behave as if they were trained."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.keys import row_keys
from diffcf.causal.nscm import NSCM

CONTINUOUS = CausalGraph(
    [Factor(n) for n in ("angle", "light", "length", "position")],
    [("angle", "length"), ("angle", "position"), ("light", "length"), ("light", "position")],
)
SHAPES = ("cube", "sphere", "cone")
CATEGORICAL = CausalGraph(
    [
        Factor("shape", "categorical", categories=SHAPES),
        Factor("size"),
        Factor("lit", "binary"),
        Factor("hue", "categorical", categories=("red", "blue")),
    ],
    [("shape", "size"), ("shape", "lit"), ("size", "hue"), ("lit", "hue")],
)


def make(graph: CausalGraph, seed: int = 0, spread: float = 3.0, **settings: bool) -> NSCM:
    """An NSCM with parameters far from their initial values, as after training."""
    torch.manual_seed(seed)
    nscm = NSCM(graph, hidden=(16, 16), **settings).eval()
    with torch.no_grad():
        for parameter in nscm.parameters():
            parameter.mul_(spread)
    return nscm


def abduct(nscm: NSCM, factors: Tensor, seed: int = 0) -> Tensor:
    """Exogenous values ``[B, E]`` of factors that are the first rows of a data set."""
    return nscm.abduct(factors, row_keys(torch.arange(len(factors)), seed))
