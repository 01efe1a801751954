"""Effectiveness apart for what the data lack: a value that its causes hardly ever come with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffcf.causal import CausalGraph, lacks_overlap
from diffcf.evaluation.metrics.image_metric import ImageMetric, levels


class OverlapEffectiveness(ImageMetric):
    """Does what was set read as set, where the data have it beside its causes, and where not?

    - ``no_overlap/<name>``: share of images in which the data lack it (:func:`lacks_overlap`).
    - ``accuracy_no_overlap/<name>``: share of these that read as set.
    - ``accuracy_overlap/<name>``: share of the others that do.

    Of factors that never lack it there is nothing. A reader that was trained on the same data has
    not seen what they lack either.

    Args:
        graph: the factors.
        labels: of the data, ``[N, K]`` in [0, 1] units.

    >>> import torch
    >>> from diffcf.causal import Factor
    >>> factors = [Factor("male", "binary"), Factor("beard", "binary")]
    >>> graph = CausalGraph(factors, [("male", "beard")])
    >>> people = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    >>> metric = OverlapEffectiveness(graph, people)
    >>> asked = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    >>> metric.update(torch.tensor([[0.1, 0.2], [0.9, 0.8]]), asked, column=1)
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'no_overlap/beard': 0.5, 'accuracy_overlap/beard': 1.0, 'accuracy_no_overlap/beard': 0.0}
    """

    def __init__(self, graph: CausalGraph, labels: Tensor, **kwargs: object) -> None:
        super().__init__(3 * len(graph), 1, **kwargs)
        self.graph, self.labels = graph, labels

    def update(
        self, read: Tensor, target: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add factors ``[B, K]`` read, and those to be shown where ``column`` was set.

        Continuous factors are left out.
        """
        factor, count = self.graph.factors[column], len(self.graph)
        if factor.continuous:
            return
        lacks = lacks_overlap(self.graph, self.labels, target, column)
        hit = levels(factor, read[:, column]) == levels(factor, target[:, column])
        self._add(hit[:, None].double(), column + count * lacks.long(), index)
        self._add(lacks[:, None].double(), column + 2 * count, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The shares, of factors that lack overlap somewhere."""
        result, count = {}, len(self.graph)
        for k, name in enumerate(self.graph.names):
            if count + k in seen:
                result[f"no_overlap/{name}"] = means[:, 2 * count + k, 0]
                if k in seen:
                    result[f"accuracy_overlap/{name}"] = means[:, k, 0]
                result[f"accuracy_no_overlap/{name}"] = means[:, count + k, 0]
        return result
