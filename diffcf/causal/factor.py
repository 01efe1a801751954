"""One causal factor: its name, its kind, its range or its categories, its scale."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

from diffcf.causal.description import factor_settings
from diffcf.io import GraphError

if TYPE_CHECKING:  # graphs are read without PyTorch
    from torch import Tensor

KINDS = ("continuous", "binary", "categorical", "integer")
SCALES = ("linear", "log")
LONGEST_NAME, MOST_LEVELS = 100, 1_000_000
ROUNDING = 1e-6  # how far outside [0, 1] a value may lie as the end itself: float32 arithmetic
Number = TypeVar("Number", float, "Tensor")


@dataclass(frozen=True)
class Factor:
    """One causal factor: ``kind`` is one of :data:`KINDS`; ``[low, high]`` is in native units.

    The native value of a categorical factor is the index of its category in ``categories``, so its
    range is 0 to their number less one, whatever is given. An integer factor is continuous for
    networks and mechanisms, and a whole number to whoever sets or reads it.

    Its values in [0, 1] units are linear in native ones or, on the ``scale`` ``"log"``, in their
    logarithm: for factors whose large values are rare, such as areas and incomes.
    """

    name: str
    kind: str = "continuous"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()
    scale: str = "linear"

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
        """What is wrong with kind, range, scale and categories, most basic first."""
        span, categories = f"[{self.low}, {self.high}]", list(self.categories)
        if self.kind not in KINDS:
            yield f"has kind {self.kind!r:.100}: use one of {', '.join(KINDS)}"
        if self.scale not in SCALES:
            yield f"has scale {self.scale!r:.100}: use one of {', '.join(SCALES)}"
        if not self.low < self.high:
            yield f"has the empty range {span}: its low end must be below its high end"
        low, high = array("f", [self.low, self.high])  # rounded to single precision
        if not low < high or not math.isfinite(high - low):
            yield f"has the range {span}, which single precision cannot hold: take other units"
        if self.kind == "integer" and not (self.low % 1 == self.high % 1 == 0):
            yield f"is integer and has the range {span}: its ends must be whole numbers"
        if self.kind == "integer" and self.high - self.low > MOST_LEVELS:
            yield f"has more than {MOST_LEVELS:,} whole numbers: make its kind 'continuous'"
        if self.scale == "log" and not self.continuous:
            yield f"is {self.kind}, which has no scale: drop it"
        if self.scale == "log" and not low > 0:
            yield f"has a log scale from {self.low}: its low end must be above 0"
        if self.kind == "binary" and (self.low, self.high) != (0.0, 1.0):
            yield "takes the values 0 and 1, being binary: drop its range"
        if self.kind != "categorical" and categories:
            yield f"is {self.kind} but lists categories: drop them, or make its kind 'categorical'"
        if self.kind == "categorical" and len(set(categories)) < max(2, len(categories)):
            yield f"is categorical and needs two or more different categories, got {categories}"

    @property
    def continuous(self) -> bool:
        """Whether networks and mechanisms see a number: the kinds continuous and integer."""
        return self.kind in ("continuous", "integer")

    @property
    def width(self) -> int:
        """Columns of the factor's code: one per category, else one."""
        return len(self.categories) or 1

    @property
    def levels(self) -> int | None:
        """How many values can be set, from the low to the high end; None where all between can."""
        return None if self.kind == "continuous" else round(self.high - self.low) + 1

    # --- units ---

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends of the range in the units that [0, 1] units are linear in."""
        log = self.scale == "log"
        return (math.log(self.low), math.log(self.high)) if log else (self.low, self.high)

    @property
    def slack(self) -> float:
        """In [0, 1] units, how far single precision of the native value may lead off the end."""
        low, high = self.ends
        size = 1.0 if self.scale == "log" else max(abs(low), abs(high))
        return max(ROUNDING, 2**-23 * size / (high - low))

    def to_native(self, scaled: Number) -> Number:
        """[0, 1] units to native units."""
        low, high = self.ends
        value = low + scaled * (high - low)
        if self.scale == "linear":
            return value
        return math.exp(min(value, 700.0)) if isinstance(value, float) else value.exp()

    def to_scaled(self, native: Number) -> Number:
        """Native units to [0, 1] units; minus infinity for what has no logarithm."""
        low, high = self.ends
        if self.scale == "log":
            if isinstance(native, int | float):
                native = math.log(native) if native > 0 else -math.inf
            else:
                native = native.clamp_min(0).log()
        return (native - low) / (high - low)

    def snap(self, scaled: Tensor) -> Tensor:
        """The nearest values, in [0, 1] units, that an intervention may set."""
        inside = scaled.clamp(0, 1)
        if self.levels is None:
            return inside
        if self.scale == "log":
            whole = self.to_native(_wide(inside)).round()
            return self.to_scaled(whole).clamp(0, 1).to(scaled)
        steps = self.levels - 1
        return (inside * steps).round() / steps

    def is_level(self, scaled: Tensor) -> Tensor:
        """Which values, in [0, 1] units, :meth:`snap` would leave alone but for rounding; bool."""
        near = (scaled - self.snap(scaled)).abs() <= 2**-22
        native = self.to_native(_wide(scaled))
        written = ROUNDING if self.kind == "binary" else 1e-3  # decimals that people leave out
        return near | ((native - native.round()).abs() <= written)

    def scaled(self, category: str) -> float:
        """The [0, 1] value of a category; GraphError when there is none of that name."""
        if category not in self.categories:
            known = ", ".join(self.categories) or "none: give a number"
            raise GraphError(f"Factor '{self.name}' has no category {category!r}; it has {known}.")
        return self.categories.index(category) / (len(self.categories) - 1)

    def category(self, scaled: Tensor) -> Tensor:
        """The index, int64, of the category nearest to each value in [0, 1] units."""
        return (scaled * (self.width - 1)).round().long().clamp(0, self.width - 1)

    # --- for people and files ---

    def written(self, scaled: float) -> float | str:
        """A value in [0, 1] units for files: a category's name, or a native number.

        What lies in the range, but for rounding, is written such that it lies in it when it is
        read back; integers are written as such.
        """
        native = self.to_native(scaled)
        if -self.slack <= scaled <= 1 + self.slack:
            native = min(max(native, self.low), self.high)
        if self.categories:
            return self.categories[min(max(round(native), 0), len(self.categories) - 1)]
        return round(native) if self.kind == "integer" else native

    def text(self, scaled: float) -> str:
        """A value in [0, 1] units for people: the category's name, or a rounded native number.

        Rounding never leads out of the range.
        """
        native = self.written(scaled)
        if isinstance(native, str):
            return native
        if self.kind in ("binary", "integer"):
            return f"{native:.0f}"
        if self.scale == "log":
            return self._rounded(native, 2 - _magnitude(native))
        return self._rounded(native, max(2, 2 - _magnitude(self.high - self.low)))

    @property
    def domain(self) -> str:
        """All values for people: the names of the categories, "0, 1", or the native range."""
        if not self.continuous:
            return ", ".join(self.categories) or "0, 1"
        finest = 2 - _magnitude(self.high - self.low)
        ends = (self._rounded(x, max(3 - _magnitude(x), finest)) for x in (self.low, self.high))
        return " … ".join(end.rstrip("0").rstrip(".") if "." in end else end for end in ends)

    def _rounded(self, native: float, decimals: int) -> str:
        """A native number with so many decimals, inside the range if the number is."""
        exact, unit = Decimal(native), Decimal(1).scaleb(-decimals)
        try:
            shown = exact.quantize(unit, ROUND_HALF_EVEN)
            if self.low <= native <= self.high and not self.low <= shown <= self.high:
                shown = exact.quantize(unit, ROUND_FLOOR if shown > exact else ROUND_CEILING)
        except InvalidOperation:  # more digits than are worth printing
            return repr(native)
        return f"{shown:f}"

    # --- descriptions ---

    def to_spec(self) -> dict[str, object]:
        """Primitive description, without the name; :meth:`from_spec` reads it back."""
        if self.categories:
            return {"kind": self.kind, "categories": list(self.categories)}
        scale = {} if self.scale == "linear" else {"scale": self.scale}
        return {"kind": self.kind, "range": [float(self.low), float(self.high)], **scale}

    @classmethod
    def from_spec(cls, name: str, spec: object) -> Factor:
        """Read a mapping of ``kind``, ``range``, ``scale`` and ``categories``; all are optional."""
        settings: dict[str, Any] = factor_settings(name, spec)
        return cls(name, **settings)


def _wide(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values if values.device.type == "mps" else values.double()


def _magnitude(number: float) -> int:
    """The power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(abs(number))) if number else 0
