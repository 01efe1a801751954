"""Bases of the metrics: rows kept image by image, and means over images with bootstrap intervals.

Keeping rows costs a few numbers per image and buys three things: bootstrap intervals, histograms
of errors, and, under DDP, the exact result of one process (images that a distributed sampler hands
out twice count once). The ``update`` of every metric takes ``index`` ``[B]``: which image of the
set each row is of; without it every row counts as an image of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from diffcf.causal import CausalGraph, Factor

UNKNOWN = -1
WEIGHTS_AT_ONCE = 10_000_000  # of a bootstrap: some 80 MiB


class RowMetric(Metric):
    """Keeps rows of tensors, and of which image each row is.

    Args:
        empty: by name, a tensor of no rows, of the dtype and the shape behind that rows have.
    """

    is_differentiable = False
    full_state_update = False

    index: list[Tensor]

    def __init__(self, empty: Mapping[str, Tensor], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.empty = {**empty, "index": torch.zeros(0, dtype=torch.long)}
        for name in self.empty:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # No list stays empty: a process that saw no image must still take part in the gathering.
        self.keep(**self.empty)

    def keep(self, index: Tensor | None, **rows: Tensor) -> None:
        """Add rows by the names of ``empty``; ``index`` ``[B]`` says which image each is of."""
        count = len(next(iter(rows.values())))
        rows["index"] = torch.full((count,), UNKNOWN) if index is None else index
        for name, values in rows.items():
            getattr(self, name).append(values.detach().to(self.device, self.empty[name].dtype))

    def kept(self, *names: str, within: str | None = None) -> list[Tensor]:
        """Rows by name, and last the images they are of: every image once, in order.

        So they do not depend on batches and processes. ``within`` names the tensor ``[n]`` of
        groups, in each of which an image counts once. ValueError when no image was added.
        """
        index = dim_zero_cat(self.index).clone()
        if not len(index):
            raise ValueError(
                f"{type(self).__name__} has seen no image: update it before computing."
            )
        # Rows of unknown images get numbers of their own, which no known image has.
        unknown = (index == UNKNOWN).nonzero().flatten()
        first = int(index.max()) + 1
        index[unknown] = torch.arange(first, first + len(unknown), device=index.device)
        group = dim_zero_cat(getattr(self, within)) if within else torch.zeros_like(index)
        key = index * (group.max() + 1) + group
        order = key.argsort(stable=True)
        rows = order[key[order].diff(prepend=key.new_full((1,), UNKNOWN)) != 0]
        return [*(dim_zero_cat(getattr(self, name))[rows] for name in names), index[rows]]


class ImageMetric(RowMetric):
    """Means over images of some quantities, within groups (the factor set, the step, the cycle).

    A subclass adds rows in its ``update`` by :meth:`_add` and names the means in :meth:`named`.
    Every ``update`` raises ValueError for shapes that do not fit, and for NaN.

    ``groups`` and ``quantities`` are the numbers of groups and of values per row.
    """

    values: list[Tensor]
    group: list[Tensor]

    def __init__(self, groups: int, quantities: int, **kwargs: object) -> None:
        values = torch.zeros(0, quantities, dtype=torch.float64)
        super().__init__({"values": values, "group": torch.zeros(0, dtype=torch.long)}, **kwargs)
        self.groups, self.quantities = groups, quantities

    @abstractmethod
    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Results by name from means ``[R, G, Q]`` (R resamples); ``seen`` are groups with rows."""

    def _add(self, values: Tensor, group: Tensor | int, index: Tensor | None) -> None:
        """Rows ``[B, Q]``, their group (``[B]`` or one for all), and which image each is of."""
        name, count = type(self).__name__, len(values)
        if values.shape != (count, self.quantities):
            raise ValueError(
                f"{name} takes rows of {self.quantities} values, got {tuple(values.shape)}."
            )
        if not torch.isfinite(values).all():
            raise ValueError(
                f"{name} met a value that is NaN or infinite: fix the method or the reader."
            )
        group = torch.as_tensor(group, device=values.device)
        group = group.expand(count) if group.dim() == 0 else group
        indexed = count if index is None else len(index)
        if len(group) != count or indexed != count:
            raise ValueError(
                f"{name} takes a group and an index for each of {count} images, got {len(group)} "
                f"and {indexed}."
            )
        if ((group < 0) | (group >= self.groups)).any():
            raise ValueError(f"{name} has groups 0 to {self.groups - 1}, got {group.tolist()}.")
        self.keep(index, values=values, group=group)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``[n, Q]``, group ``[n]`` and image ``[n]``, as :meth:`kept` gives them."""
        values, group, index = self.kept("values", "group", within="group")
        return values, group, index

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`rows` of all processes, on the CPU; every process has to call it."""
        with self.sync_context():
            values, group, index = self.rows()
            return values.cpu(), group.cpu(), index.cpu()

    def compute(self) -> dict[str, Tensor]:
        """Means by name; ValueError when no image was added."""
        values, group, _ = self.rows()
        weight = values.new_ones(1, len(values))
        return {k: v[0].float() for k, v in self._weighted(values, group, weight).items()}

    def intervals(
        self, level: float = 0.95, resamples: int = 1000, seed: int = 0
    ) -> dict[str, tuple[float, float]]:
        """Bootstrap percentile intervals over images, by the names of :meth:`compute`.

        All rows of an image are drawn together, since they are not independent (Efron & Tibshirani,
        An introduction to the bootstrap, 1993, chapter 13). Every process has to call it.
        """
        values, group, index = self.gathered()
        place = index.unique(return_inverse=True)[1]
        images = int(place.max()) + 1
        generator = torch.Generator().manual_seed(seed)
        parts: list[dict[str, Tensor]] = []
        # In parts, so that memory does not grow with resamples times images.
        for count in torch.arange(resamples).split(max(1, WEIGHTS_AT_ONCE // len(values))):
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

    def by_image(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By the names of :meth:`compute`: rows of images in the set, ``[n]``, and each image's own
        score, ``[n]``, whose mean it is; without images that were not asked all of it.

        Every process has to call it.
        """
        values, group, index = self.gathered()
        images, place = index.unique(return_inverse=True)
        parts: list[dict[str, Tensor]] = []
        for few in torch.arange(len(images)).split(max(1, WEIGHTS_AT_ONCE // len(values))):
            parts.append(self._weighted(values, group, (place == few[:, None]).to(values)))
        scores = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return where_known(images, scores)

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


class FactorMetric(ImageMetric):
    """Means of some quantities by intervened factor, over the roots, the leaves, and all of them.

    The ``update`` of a subclass takes ``column``, that of the factor of ``graph`` that was set.
    """

    quantity_names: ClassVar[tuple[str, ...]]

    def __init__(self, graph: CausalGraph, **kwargs: object) -> None:
        super().__init__(len(graph), len(self.quantity_names), **kwargs)
        self.graph = graph

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Each quantity, named by :func:`factor_means`."""
        result: dict[str, Tensor] = {}
        for quantity, mean in zip(self.quantity_names, means.unbind(dim=2), strict=True):
            result |= factor_means(quantity, mean, seen, self.graph)
        return result


def where_known(images: Tensor, scores: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each score ``[N]``, the images ``[n]`` that have it, and it; NaN is none."""
    known = {name: score.isfinite() for name, score in scores.items()}
    return {name: (images[known[name]], score[known[name]]) for name, score in scores.items()}


def factor_means(
    quantity: str, means: Tensor, seen: Sequence[int], graph: CausalGraph
) -> dict[str, Tensor]:
    """``<quantity>`` over all intervened factors, ``<quantity>/<factor>``, ``/roots``, ``/leaves``.

    ``means`` ``[R, K]`` are by intervened factor; ``seen`` are the columns of those that occurred.
    """
    names = graph.names
    result = {quantity: means[:, list(seen)].mean(dim=1)}
    result |= {f"{quantity}/{names[k]}": means[:, k] for k in seen}
    for group, members in (("roots", graph.roots), ("leaves", graph.leaves)):
        columns = [k for k in seen if names[k] in members]
        if columns:
            result[f"{quantity}/{group}"] = means[:, columns].mean(dim=1)
    return result


def levels(factor: Factor, values: Tensor) -> Tensor:
    """Int64 levels of a discrete factor's ``values`` ``[N]``; a binary factor is 1 from ½ on."""
    return factor.category(values) if factor.categories else (values >= 0.5).long()
