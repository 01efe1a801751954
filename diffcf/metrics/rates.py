"""How often effects follow their cause, against how often they should.

For scenes whose counterfactuals are random: over the images in which a binary factor is set to a
value, the mean reading of every other factor is compared with the mean of its true counterfactual
probability. A single image cannot be wrong here; a biased mechanism is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcf.graph import CausalGraph
from diffcf.metrics.image_metric import ImageMetric

__all__ = ["CounterfactualRates"]


class CounterfactualRates(ImageMetric):
    """Mean reading and mean true probability per factor set, value set to, and factor read.

    >>> from diffcf.graph import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("rain", "binary"), Factor("wet", "binary")], [("rain", "wet")])
    >>> rates = CounterfactualRates(graph)
    >>> do = torch.tensor([1.0])
    >>> rates.update(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.9]]), do, column=0)
    >>> {name: round(float(value), 2) for name, value in rates.compute().items()}
    {'rate/rain=1/wet': 1.0, 'true_rate/rain=1/wet': 0.9, 'rate_error': 0.1}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        # Group: the factor set and its value; quantities: what is read, then what is true.
        super().__init__(groups=2 * len(graph), quantities=2 * len(graph), **kwargs)
        self.graph = graph

    def update(
        self,
        read: Tensor,
        probability: Tensor,
        values: Tensor,
        column: int,
        index: Tensor | None = None,
    ) -> None:
        """Add images in which factor ``column`` was set to ``values`` ``[B]`` of 0 and 1.

        Args:
            read: factors read off the counterfactual images, ``[B, K]``.
            probability: of 1 in the true counterfactual world, ``[B, K]``.
            index: ``[B]``, rows of the images in their set.
        """
        group = 2 * column + (values >= 0.5).long()
        self._add(torch.cat([read, probability.to(read)], dim=1), group, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Rates of the descendants of each factor, and ``rate_error``, their mean difference."""
        result: dict[str, Tensor] = {}
        errors = []
        size, names = len(self.graph), self.graph.names
        for group in seen:
            cause, value = names[group // 2], group % 2
            for effect in sorted(self.graph.descendants(cause), key=self.graph.column):
                place = self.graph.column(effect)
                read, true = means[:, group, place], means[:, group, size + place]
                result[f"rate/{cause}={value}/{effect}"] = read
                result[f"true_rate/{cause}={value}/{effect}"] = true
                errors.append((read - true).abs())
        if errors:
            result["rate_error"] = torch.stack(errors).mean(dim=0)
        return result
