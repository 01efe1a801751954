"""How often effects follow their cause, against how often they should.

For scenes whose counterfactuals are random: over the images in which a binary factor is set to a
value, the mean reading of every other factor is compared with the mean of its true counterfactual
probability. A single image cannot be wrong here; a biased mechanism is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from diffcf.graph import CausalGraph

__all__ = ["CounterfactualRates"]


class CounterfactualRates(Metric):
    """Mean reading and mean true probability per factor set, value set to, and factor read.

    >>> from diffcf.graph import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("rain", "binary"), Factor("wet", "binary")], [("rain", "wet")])
    >>> rates = CounterfactualRates(graph)
    >>> do = torch.tensor([1.0])
    >>> rates.update(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.9]]), do, column=0)
    >>> {name: round(float(value), 2) for name, value in rates.compute().items()}
    {'rate/rain=1/wet': 1.0, 'true_rate/rain=1/wet': 0.9, 'rate_error': 0.1}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    read: Tensor
    true: Tensor
    count: Tensor

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.graph = graph
        size = len(graph)
        zeros = torch.zeros(size, 2, size, dtype=torch.float64)  # [set, value, read]
        self.add_state("read", zeros, dist_reduce_fx="sum")
        self.add_state("true", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("count", zeros[..., 0].clone(), dist_reduce_fx="sum")

    def update(self, read: Tensor, probability: Tensor, values: Tensor, column: int) -> None:
        """Add images in which factor ``column`` was set to ``values`` ``[B]`` of 0 and 1.

        Args:
            read: factors read off the counterfactual images, ``[B, K]``.
            probability: of 1 in the true counterfactual world, ``[B, K]``.
        """
        which = (values >= 0.5).long()
        self.read[column].index_add_(0, which, read.to(self.read.dtype))
        self.true[column].index_add_(0, which, probability.to(self.true.dtype))
        ones = torch.ones_like(which, dtype=self.count.dtype)
        self.count[column].index_add_(0, which, ones)

    def compute(self) -> dict[str, Tensor]:
        """Rates of the descendants of each factor, and ``rate_error``, their mean difference."""
        result, errors = {}, []
        for column, name in enumerate(self.graph.names):
            for value in (0, 1):
                count = self.count[column, value]
                if count == 0:
                    continue
                for child in sorted(self.graph.descendants(name), key=self.graph.column):
                    place = self.graph.column(child)
                    read = self.read[column, value, place] / count
                    true = self.true[column, value, place] / count
                    result[f"rate/{name}={value}/{child}"] = read
                    result[f"true_rate/{name}={value}/{child}"] = true
                    errors.append((read - true).abs())
        if errors:
            result["rate_error"] = torch.stack(errors).mean()
        return {name: value.float() for name, value in result.items()}
