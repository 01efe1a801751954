"""One causal factor: its name, its kind, its range or its categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from diffcf.io import GraphError

KINDS = ("continuous", "binary", "categorical")
LONGEST_NAME = 100
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Factor:
    """One causal factor: ``kind`` is one of :data:`KINDS`; ``[low, high]`` is in native units.

    The native value of a categorical factor is the place of its category in ``categories``, so its
    range is 0 to their number less one, whatever is given.
    """

    name: str
    kind: str = "continuous"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "categorical" and len(self.categories) > 1:
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", float(len(self.categories) - 1))
        named = isinstance(self.name, str) and self.name.isidentifier()
        if not named or len(self.name) > LONGEST_NAME:
            raise GraphError(
                f"Factor name {self.name!r:.100} is not usable: take letters, digits and '_', "
                f"{LONGEST_NAME} at most."
            )
        if self.kind not in KINDS:
            raise GraphError(
                f"Factor '{self.name}' has kind {self.kind!r:.100}: use one of {', '.join(KINDS)}."
            )
        self._check_range()
        if self.kind == "binary" and (self.low, self.high) != (0.0, 1.0):
            raise GraphError(
                f"Binary factor '{self.name}' takes the values 0 and 1: drop its range."
            )
        self._check_categories()

    def _check_range(self) -> None:
        if not self.low < self.high:
            raise GraphError(
                f"Factor '{self.name}' has the empty range [{self.low}, {self.high}]: "
                "its low end must be below its high end."
            )
        # As tensors hold them, of single precision.
        low, high = torch.tensor([self.low, self.high], dtype=torch.float64).float().tolist()
        if not isfinite(high - low) or not low < high or not isfinite(2 * (high - low)):
            raise GraphError(
                f"Factor '{self.name}' has the range [{self.low}, {self.high}], which single "
                "precision cannot hold: take other units."
            )

    def _check_categories(self) -> None:
        if self.kind != "categorical":
            if self.categories:
                raise GraphError(
                    f"Factor '{self.name}' is {self.kind} but lists categories: drop them, or make "
                    "its kind 'categorical'."
                )
        elif len(set(self.categories)) != len(self.categories) or len(self.categories) < 2:
            raise GraphError(
                f"Categorical factor '{self.name}' needs two or more different categories, "
                f"got {list(self.categories)}."
            )

    @property
    def width(self) -> int:
        """Columns of the factor's code: one per category, else one."""
        return len(self.categories) or 1

    def text(self, scaled: float) -> str:
        """A value in [0, 1] units as people write it: the category's name, or a native number."""
        native = self.low + scaled * (self.high - self.low)
        if self.kind == "categorical":
            return self.categories[min(max(round(native), 0), len(self.categories) - 1)]
        return f"{native:.0f}" if self.kind == "binary" else f"{native:.2f}"

    def place(self, scaled: Tensor) -> Tensor:
        """The category's place, int64, of values in [0, 1] units: the nearest one."""
        last = self.width - 1
        return (scaled * last).round().long().clamp(0, last)

    def scaled(self, category: str) -> float:
        """The [0, 1] value of a category; GraphError when there is none of that name."""
        if category not in self.categories:
            known = ", ".join(self.categories) or "none: give a number"
            raise GraphError(f"Factor '{self.name}' has no category {category!r}; it has {known}.")
        return self.categories.index(category) / (len(self.categories) - 1)


def factor_to_spec(factor: Factor) -> dict[str, Any]:
    if factor.categories:
        return {"kind": factor.kind, "categories": list(factor.categories)}
    return {"kind": factor.kind, "range": [float(factor.low), float(factor.high)]}


def factor_from_spec(name: str, spec: Mapping[str, Any]) -> Factor:
    if not isinstance(spec, Mapping) or set(spec) - {"kind", "range", "categories"}:
        raise GraphError(
            f"Factor {name!r:.100} takes only 'kind', 'range' and 'categories', got {spec!r:.200}."
        )
    categories = [] if spec.get("categories") is None else spec["categories"]
    if not isinstance(categories, list | tuple) or len(categories) > MOST_CATEGORIES:
        raise GraphError(
            f"Factor {name!r:.100} needs a list of categories, {MOST_CATEGORIES} at most, "
            f"got {categories!r:.100}."
        )
    kind = spec.get("kind", "categorical" if categories else "continuous")
    bounds = spec.get("range", [0.0, 1.0])
    try:
        if not isinstance(bounds, list | tuple):
            raise TypeError
        low, high = (float(value) for value in bounds)
    except (TypeError, ValueError, OverflowError):
        raise GraphError(
            f"Factor {name!r:.100} needs a range [low, high], got {bounds!r:.100}."
        ) from None
    return Factor(name, kind, low, high, tuple(str(c) for c in categories))
