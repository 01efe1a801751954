"""Whether a counterfactual leaves alone what the intervention does not reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.metrics.image_metric import FactorMetric, levels


class Kept(FactorMetric):
    """Do the factors that are no effects of the one set still read as in the factual image?

    ``kept/<name>``: mean over these factors and over images of: whether a discrete factor reads
    alike (:func:`levels`), and one less the difference in parts of the range for a continuous one.
    Readings are compared with readings, so that an error of the reader on both is none here. Left
    out for a factor of which all others are effects.

    >>> from diffcf.causal import Factor
    >>> factors = [Factor(name, "binary") for name in ("male", "old", "bald")]
    >>> graph = CausalGraph(factors, [("old", "bald")])
    >>> kept = Kept(graph)
    >>> kept.update(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.0]]), column=1)
    >>> kept.update(torch.tensor([[1.0, 0.9, 0.2]]), torch.tensor([[0.0, 0.0, 0.0]]), column=0)
    >>> {name: float(value) for name, value in kept.compute().items() if "/" in name}
    {'kept/male': 0.5, 'kept/old': 1.0, 'kept/roots': 1.0, 'kept/leaves': 0.5}
    """

    quantity_names = ("kept",)
    higher_is_better = True

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(graph, **kwargs)
        self._others = ~graph.reach

    def update(
        self, read: Tensor, factual: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add factors ``[B, K]`` read off counterfactuals under do(``column``), and the factual."""
        others = self._others[column].nonzero()[:, 0].tolist()
        if not others:
            return
        same = [self._alike(k, read[:, k].float(), factual[:, k].float()) for k in others]
        self._add(torch.stack(same).mean(dim=0)[:, None], column, index)

    def _alike(self, column: int, a: Tensor, b: Tensor) -> Tensor:
        factor = self.graph.factors[column]
        if factor.continuous:
            return 1 - (a - b).abs()
        return (levels(factor, a) == levels(factor, b)).float()
