"""Whether a counterfactual still shows what, or whom, the factual shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means, where_known


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
        """As of any metric, by each image's own d and the :math:`d_o` of the whole set."""
        values, group, index = self.gathered()
        images, place = index.unique(return_inverse=True)
        identity = values.new_full((len(images), self.groups), torch.nan)
        counts = torch.bincount(group, minlength=self.groups)
        seen = [k for k, count in enumerate(counts.tolist()) if count > 1]
        for k in seen:
            mine = group == k
            apart = _apart(values[mine, 1:].mean(dim=0), counts[k])
            identity[place[mine], k] = 1 - values[mine, 0] / apart
        return where_known(images, factor_means("identity", identity, seen, self.graph))

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The measure, named by :func:`factor_means`; nothing where there are no two images."""
        count, seen = self._count, [k for k in seen if self._count[k] > 1]
        if not seen:
            return {}
        identity = 1 - means[..., 0] / _apart(means[..., 1:], count)
        return factor_means("identity", identity, seen, self.graph)


def _apart(mean: Tensor, count: Tensor) -> Tensor:
    """Mean cosine distance of two different images, of whose features ``[..., F]`` is the mean."""
    # |mean|² is the mean cosine of all pairs, each image with itself among them.
    together = mean.square().sum(dim=-1)
    return (1 - (count * together - 1) / (count - 1).clamp_min(1)).clamp_min(1e-12)
