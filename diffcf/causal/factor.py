"""One causal factor: its name, its kind, its range or its categories."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, TypeVar

from diffcf.io import GraphError

if TYPE_CHECKING:  # graphs are read without PyTorch
    from torch import Tensor

KINDS = ("continuous", "binary", "categorical")
LONGEST_NAME, MOST_CATEGORIES = 100, 1000
Number = TypeVar("Number", float, "Tensor")


@dataclass(frozen=True)
class Factor:
    """One causal factor: ``kind`` is one of :data:`KINDS`; ``[low, high]`` is in native units.

    The native value of a categorical factor is the index of its category in ``categories``, so its
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
        for fault in self._faults():
            raise GraphError(f"Factor '{self.name}' {fault}.")

    def _faults(self) -> Iterator[str]:
        """What is wrong with kind, range and categories, most basic first."""
        span, categories = f"[{self.low}, {self.high}]", list(self.categories)
        if self.kind not in KINDS:
            yield f"has kind {self.kind!r:.100}: use one of {', '.join(KINDS)}"
        if not self.low < self.high:
            yield f"has the empty range {span}: its low end must be below its high end"
        low, high = array("f", [self.low, self.high])  # rounded to single precision
        if not low < high or not isfinite(high - low):
            yield f"has the range {span}, which single precision cannot hold: take other units"
        if self.kind == "binary" and (self.low, self.high) != (0.0, 1.0):
            yield "takes the values 0 and 1, being binary: drop its range"
        if self.kind != "categorical" and categories:
            yield f"is {self.kind} but lists categories: drop them, or make its kind 'categorical'"
        if self.kind == "categorical" and len(set(categories)) < max(2, len(categories)):
            yield f"is categorical and needs two or more different categories, got {categories}"

    @property
    def width(self) -> int:
        """Columns of the factor's code: one per category, else one."""
        return len(self.categories) or 1

    def to_native(self, scaled: Number) -> Number:
        """[0, 1] units to native units."""
        return self.low + scaled * (self.high - self.low)

    def to_scaled(self, native: Number) -> Number:
        """Native units to [0, 1] units."""
        return (native - self.low) / (self.high - self.low)

    def scaled(self, category: str) -> float:
        """The [0, 1] value of a category; GraphError when there is none of that name."""
        if category not in self.categories:
            known = ", ".join(self.categories) or "none: give a number"
            raise GraphError(f"Factor '{self.name}' has no category {category!r}; it has {known}.")
        return self.categories.index(category) / (len(self.categories) - 1)

    def category(self, scaled: Tensor) -> Tensor:
        """The index, int64, of the category nearest to each value in [0, 1] units."""
        return (scaled * (self.width - 1)).round().long().clamp(0, self.width - 1)

    def text(self, scaled: float) -> str:
        """A value in [0, 1] units for people: the category's name, or a rounded native number."""
        native = self.to_native(scaled)
        if self.categories:
            return self.categories[min(max(round(native), 0), len(self.categories) - 1)]
        return f"{native:.0f}" if self.kind == "binary" else f"{native:.2f}"

    @property
    def domain(self) -> str:
        """All values for people: the names of the categories, "0, 1", or the native range."""
        if self.kind == "continuous":
            return f"{self.low:.4g} … {self.high:.4g}"
        return ", ".join(self.categories) or "0, 1"

    def to_spec(self) -> dict[str, object]:
        """Primitive description, without the name; :meth:`from_spec` reads it back."""
        if self.categories:
            return {"kind": self.kind, "categories": list(self.categories)}
        return {"kind": self.kind, "range": [float(self.low), float(self.high)]}

    @classmethod
    def from_spec(cls, name: str, spec: object) -> Factor:
        """Read a mapping of ``kind``, ``range`` and ``categories``; all three are optional."""
        what = f"Factor {name!r:.100}"
        if not isinstance(spec, Mapping) or set(spec) - {"kind", "range", "categories"}:
            allowed = "'kind', 'range' and 'categories'"
            raise GraphError(f"{what} takes only {allowed}, got {spec!r:.200}.")
        categories = [] if spec.get("categories") is None else spec["categories"]
        if not isinstance(categories, list | tuple) or len(categories) > MOST_CATEGORIES:
            allowed = f"a list of categories, {MOST_CATEGORIES} at most"
            raise GraphError(f"{what} needs {allowed}, got {categories!r:.100}.")
        bounds = spec.get("range", [0.0, 1.0])
        try:
            if not isinstance(bounds, list | tuple):
                raise TypeError
            low, high = map(float, bounds)
        except (TypeError, ValueError, OverflowError):
            raise GraphError(f"{what} needs a range [low, high], got {bounds!r:.100}.") from None
        kind = spec.get("kind", "categorical" if categories else "continuous")
        return cls(name, kind, low, high, tuple(map(str, categories)))
