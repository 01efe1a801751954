"""The base of every metric that is a mean over images: values kept image by image.

Keeping them costs a few numbers per image and buys three things: bootstrap intervals, histograms
of errors, and, under DDP, the exact result of one process (images that a distributed sampler hands
out twice count once).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

UNKNOWN = -1
CELLS = 10_000_000  # weights that a bootstrap holds at once


class ImageMetric(Metric):
    """Means over images of some quantities, within groups (the factor set, the step, the cycle).

    A subclass adds rows in its ``update`` by :meth:`_add` and names the means in :meth:`named`.

    Args:
        groups: number of groups.
        quantities: number of values per row.
    """

    is_differentiable = False
    full_state_update = False

    values: list[Tensor]
    group: list[Tensor]
    index: list[Tensor]

    def __init__(self, groups: int, quantities: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups, self.quantities = groups, quantities
        for name in ("values", "group", "index"):
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # No list stays empty: a process that saw no image must still take part in the gathering.
        empty = torch.zeros(0, dtype=torch.long, device=self.device)
        self.values.append(empty.new_zeros(0, self.quantities, dtype=torch.float64))
        self.group.append(empty)
        self.index.append(empty)

    @abstractmethod
    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Results by name from means ``[R, G, Q]`` (R resamples); ``seen`` are groups with rows."""

    def _add(self, values: Tensor, group: Tensor | int, index: Tensor | None) -> None:
        """Rows ``[B, Q]``, their group (``[B]`` or one for all), and which image each is of.

        Without ``index`` every row counts as an image of its own.

        Raises:
            ValueError: for values, groups or an index that do not fit, and for NaN.
        """
        values = values.detach().to(self.values[0])
        if values.shape != (len(values), self.quantities):
            raise ValueError(
                f"{type(self).__name__} takes rows of {self.quantities} values, got "
                f"{tuple(values.shape)}."
            )
        if not torch.isfinite(values).all():
            raise ValueError(
                f"{type(self).__name__} met a value that is NaN or infinite: fix the method or "
                "the reader."
            )
        index = torch.full((len(values),), UNKNOWN) if index is None else index
        group = torch.as_tensor(group, device=values.device)
        group = group.expand(len(values)) if group.dim() == 0 else group
        if len(group) != len(values) or len(index) != len(values):
            raise ValueError(
                f"{type(self).__name__} takes a group and an index for each of {len(values)} "
                f"images, got {len(group)} and {len(index)}."
            )
        if ((group < 0) | (group >= self.groups)).any():
            raise ValueError(
                f"{type(self).__name__} has groups 0 to {self.groups - 1}, got {group.tolist()}."
            )
        self.values.append(values)
        self.group.append(group)
        self.index.append(index.to(group))

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``[n, Q]``, group ``[n]`` and image ``[n]``, each image once per group.

        In the order of the images, so that neither batches nor processes can be told from it.

        Raises:
            ValueError: when no image was added.
        """
        values, group, given = map(dim_zero_cat, (self.values, self.group, self.index))
        if len(values) == 0:
            raise ValueError(
                f"{type(self).__name__} has seen no image: update it before computing."
            )
        # Rows of unknown images are told apart by numbers that no known image has.
        index, unknown = given.clone(), given == UNKNOWN
        first = int(index.max()) + 1
        index[unknown] = torch.arange(int(unknown.sum()), device=index.device) + first
        key = index * self.groups + group
        order = key.argsort(stable=True)
        kept = order[torch.cat([key.new_ones(1), key[order].diff()]) != 0]
        return values[kept], group[kept], index[kept]

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`rows` of all processes, on the CPU; every process has to call it."""
        with self.sync_context():
            values, group, index = self.rows()
            return values.cpu(), group.cpu(), index.cpu()

    def compute(self) -> dict[str, Tensor]:
        """Means by name.

        Raises:
            ValueError: when no image was added.
        """
        values, group, _ = self.rows()
        weight = values.new_ones(1, len(values))
        return {k: v[0].float() for k, v in self._weighted(values, group, weight).items()}

    def intervals(
        self, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Bootstrap percentile intervals over images, by the names of :meth:`compute`.

        All rows of an image are drawn together, since they are not independent. Every process
        has to call it.

        Reference:
            Efron & Tibshirani, An introduction to the bootstrap, 1993, chapter 13.
        """
        values, group, index = self.gathered()
        place = index.unique(return_inverse=True)[1]
        images = int(place.max()) + 1
        generator = torch.Generator().manual_seed(seed)
        parts: list[dict[str, Tensor]] = []
        # In parts, so that memory does not grow with resamples times images.
        for count in torch.arange(resamples).split(max(1, CELLS // len(values))):
            drawn = torch.randint(images, (len(count), images), generator=generator)
            counts = torch.zeros(len(count), images, dtype=values.dtype)
            counts.scatter_add_(1, drawn, torch.ones_like(counts))
            parts.append(self._weighted(values, group, counts[:, place]))
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)
        result = {}
        for name in parts[0] if parts else ():
            low, high = torch.cat([part[name] for part in parts]).nanquantile(tails).tolist()
            result[name] = (low, high)
        return result

    def _weighted(self, values: Tensor, group: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Results ``[R]`` by name under weights ``[R, n]`` of the rows."""
        seen = sorted(group.unique().tolist())
        means = values.new_full((len(weight), self.groups, self.quantities), torch.nan)
        for g in seen:
            here = group == g
            total = weight[:, here].sum(dim=1, keepdim=True)
            # NaN where a resample leaves out all images of a rare group; quantiles skip it.
            means[:, g] = weight[:, here] @ values[here] / total
        return self.named(means, seen)


def factor_means(
    prefix: str,
    means: Tensor,
    seen: Sequence[int],
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> dict[str, Tensor]:
    """Results by intervened factor, over all of them, and over named groups such as the roots.

    Args:
        prefix: of every name; it alone names the mean over all factors.
        means: ``[R, K]``, by intervened factor.
        seen: the factors that were intervened upon.
        names: of the factors.
        groups: names of factors by the name of their group.
    """
    result = {prefix: means[:, list(seen)].mean(dim=1)}
    result |= {f"{prefix}/{names[k]}": means[:, k] for k in seen}
    for group, members in groups.items():
        columns = [k for k in seen if names[k] in members]
        if columns:
            result[f"{prefix}/{group}"] = means[:, columns].mean(dim=1)
    return result
