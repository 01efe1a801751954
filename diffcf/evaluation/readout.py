"""Measures of the model itself, not of its answers: the projector's code and the learned graph."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffcf.metrics import DCI, IRS
from diffcf.metrics.graph_distance import (
    edge_f1,
    learned_adjacency,
    structural_hamming_distance,
)

__all__ = ["ModelReadout"]


class ModelReadout:
    """DCI and IRS of what a method reads off clean images; distance of a learned graph.

    Args:
        model: a :class:`diffcf.counterfactual_module.CounterfactualModule`. Nothing is measured of
            one that reads nothing and learns no graph.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.graph
        kinds = {"DCI": DCI, "IRS": IRS} if model.reads else {}
        self.metrics = {name: kind(self.graph) for name, kind in kinds.items()}
        for metric in self.metrics.values():
            metric.to(model.device)

    @torch.no_grad()
    def update(self, image: Tensor, factors: Tensor, index: Tensor) -> None:
        """Read images ``[B, C, H, W]`` of known factors ``[B, K]``."""
        if not self.metrics:
            return
        # one number for each factor: as one-hot columns a category would be spread over codes
        code = self.graph.decode(self.model.read(image), hard=False)
        for metric in self.metrics.values():
            metric.update(code, factors, index)

    def compute(self) -> dict[str, float]:
        """Results by name; every process has to call it."""
        result: dict[str, float] = {}
        for name, metric in self.metrics.items():
            try:
                values = metric.compute()
            except ValueError as error:
                # Too few images, or a factor that does not vary in them: a property of the set
                # that was tested, which must not cost the user the rest of the test.
                rank_zero_info(f"{name} is left out: {error}")
                continue
            result |= {key: float(value) for key, value in values.items()}
        nscm = getattr(self.model, "nscm", None)
        learned = learned_adjacency(nscm) if nscm is not None else None
        if learned is not None:
            true = self.graph.adjacency
            result["graph/shd"] = float(structural_hamming_distance(learned.cpu(), true))
            result["graph/edge_f1"] = edge_f1(learned.cpu(), true)
        return result
