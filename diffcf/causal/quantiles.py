"""The distribution of a cause that has none itself, as the training data have it.

A density that a network learns is smooth, and roots seldom are: they take a few values only, or lie
evenly between two ends. What draws new worlds takes roots from the order statistics of the training
data instead, with no assumption about their distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from diffcf.causal.determination import intervened_of
from diffcf.causal.graph import CausalGraph
from diffcf.io import GraphError

MOST = 512
"""Order statistics that are kept of a factor."""


class RootQuantiles:
    """The quantile functions of the numbers among a graph's roots.

    Args:
        graph: the causal graph.
        values: by name, in rising order, values in [0, 1] units that are equally likely.

    Raises:
        GraphError: for a name that is no number without causes, and values that do not rise.
    """

    def __init__(self, graph: CausalGraph, values: Mapping[str, Tensor]) -> None:
        for name, found in values.items():
            if name not in root_numbers(graph):
                raise GraphError(f"Quantiles are of numbers without causes, and '{name}' is none.")
            if found.ndim != 1 or not len(found) or bool((found.diff() < 0).any()):
                raise GraphError(f"Quantiles of '{name}' are numbers in rising order.")
        self.graph, self.values = graph, dict(values)

    def impose(self, uniform: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Values and mask ``[B, K]`` of an intervention, with the roots that it does not set.

        These are the quantiles of ``uniform`` ``[B, K]`` in [0, 1], each of its own column.
        """
        for name, found in self.values.items():
            column = torch.arange(len(self.graph), device=mask.device) == self.graph.column(name)
            place = (uniform[:, self.graph.column(name)] * len(found)).long()
            drawn = found.to(values)[place.clamp(0, len(found) - 1)]
            values = torch.where(column & ~mask, drawn[:, None], values)
            mask = mask | column
        return values, mask

    def to_spec(self) -> dict[str, list[float]]:
        """Primitive description; :meth:`from_spec` reads it back."""
        return {name: found.tolist() for name, found in self.values.items()}

    @classmethod
    def from_spec(cls, graph: CausalGraph, spec: object) -> RootQuantiles:
        """Read what :meth:`to_spec` wrote; GraphError for anything else."""
        if not isinstance(spec, Mapping):
            raise GraphError(f"Quantiles are by the names of factors, not {spec!r:.100}.")
        for name, values in spec.items():
            if not isinstance(values, list) or not 1 <= len(values) <= MOST:
                raise GraphError(f"Quantiles of '{name}' are 1 to {MOST} numbers.")
            if not all(type(v) in (int, float) and isfinite(v) for v in values):
                raise GraphError(f"Quantiles of '{name}' are numbers.")
        return cls(graph, {str(n): torch.tensor(v, dtype=torch.float64) for n, v in spec.items()})


def root_numbers(graph: CausalGraph) -> list[str]:
    """Names of the factors without causes whose mechanism is a density, integers among them."""
    return [f.name for f in graph.factors if f.continuous and not graph.parents(f.name)]


def quantiles_of_data(graph: CausalGraph, data: object) -> RootQuantiles | None:
    """Of the training split of a data module; None where it tells no factors.

    Left out are missing labels, and what somebody set
    (:func:`diffcf.causal.determination.intervened_of`).
    """
    factors_of = getattr(data, "factors_of", None)
    if factors_of is None:
        return None
    factors: Tensor = factors_of("train")
    intervened = intervened_of(data)
    found = {}
    for name in root_numbers(graph):
        values = factors[:, graph.column(name)].double().cpu()
        kept = ~values.isnan()
        if intervened is not None:
            kept &= ~intervened[:, graph.column(name)].cpu()
        if kept.any():
            found[name] = _order_statistics(values[kept])
    return RootQuantiles(graph, found)


def _order_statistics(values: Tensor) -> Tensor:
    """Up to :data:`MOST` of the values ``[N]``, in rising order, at even ranks."""
    rising = values.clamp(0, 1).sort().values
    count = min(len(rising), MOST)
    ranks = (torch.arange(count) + 0.5) * (len(rising) / count)
    return rising[ranks.long()]
