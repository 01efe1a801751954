"""Whether a counterfactual still shows what, or whom, the factual shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means


class Identity(ImageMetric):
    """How near, in the features of a network, a counterfactual is to its own factual.

    ``identity/<name>`` is :math:`1 - d / d_o`, with d the mean cosine distance between the features
    of a counterfactual and of its factual, and :math:`d_o` that between two different factuals of
    the set: 1 for the same picture, 0 for one that is as far as another's. It counts the change
    that was asked for, too, so compare methods by it that change as much. Left out for a set of one
    image.

    Args:
        features: their number.

    >>> from diffcf.causal import Factor
    >>> identity = Identity(CausalGraph([Factor("smile", "binary")]), features=2)
    >>> factual = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> identity.update(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), factual, column=0)
    >>> round(float(identity.compute()["identity"]), 3)  # distances 0 and 0.293 of 1
    0.854
    """

    higher_is_better = True

    def __init__(self, graph: CausalGraph, features: int, **kwargs: Any) -> None:
        super().__init__(groups=len(graph), quantities=1 + features, **kwargs)
        self.graph = graph
        self._set_apart: Tensor | None = None  # d_o by group, where it is not that of the means

    def update(
        self, features: Tensor, factual: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add features ``[B, F]`` of counterfactuals under do(``column``), and of the factuals."""
        own = F.normalize(factual.double(), dim=1)
        distance = 1 - (F.normalize(features.double(), dim=1) * own).sum(dim=1, keepdim=True)
        self._add(torch.cat([distance, own], dim=1), column, index)

    def _weighted(self, values: Tensor, group: Tensor, weight: Tensor) -> dict[str, Tensor]:
        # All pairs of different images need their number beside the means.
        self._count = torch.bincount(group, minlength=self.groups).to(values)
        return super()._weighted(values, group, weight)

    def by_image(self) -> dict[str, tuple[Tensor, Tensor]]:
        """As of any metric: each image's own d, beside the :math:`d_o` of the whole set."""
        values, group, _ = self.gathered()
        self._weighted(values, group, values.new_ones(1, len(values)))
        self._set_apart = self._apart
        try:
            return super().by_image()
        finally:
            self._set_apart = None

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The measure, named by :func:`factor_means`; nothing where there are no two images."""
        count, seen = self._count, [k for k in seen if self._count[k] > 1]
        if not seen:
            return {}
        # |mean|² is the mean cosine of all pairs, each image with itself among them.
        together = means[..., 1:].square().sum(dim=-1)
        self._apart = 1 - (count * together - 1) / (count - 1).clamp_min(1)
        apart = self._apart if self._set_apart is None else self._set_apart
        identity = 1 - means[..., 0] / apart.clamp_min(1e-12)
        return factor_means("identity", identity, seen, self.graph)
