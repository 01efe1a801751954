r"""Interventions beyond ``do(light = 0.8)``: shifts, scales, distributions, conditions.

Each is a value of a ``do`` and is resolved, image by image, to a hard intervention
(:meth:`diffcf.causal.Intervention.from_do`): a number for each image, given its factual factors and
its key. What follows, mechanisms and drawing, knows hard interventions only.

``Shift(0.2)``, ``light+=0.2``
    The factual value and .2; ``light-=0.2`` takes it off.
``Scale(1.5)``, ``light*=1.5``
    The factual value times 1.5.
``Uniform(0.2, 0.4)``, ``light~uniform:0.2:0.4``
    A number between the two, each as likely.
``Normal(1, 0.2)``, ``light~normal:1:0.2``
    A normal number of this mean and deviation, cut off at the ends of the range.
``Choice(("red", "blue"))``, ``hue~choice:red,blue``
    One of these, each as likely.
``Bernoulli(0.3)``, ``lit~bernoulli:0.3``
    1 with this probability, else 0.
``When(Shift(0.2), "angle", "<", 0.3)``, ``light+=0.2 if angle<0.3``
    Any of these, or a value, in the images whose factual angle is less than .3; in the others there
    is no intervention.

Distributions are in :mod:`diffcf.causal.distributions`.

Reference: Interventions that modify the received treatment (Haneuse & Rotnitzky, 2013),
https://doi.org/10.1002/sim.5907
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Self

import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.mechanisms import wide_dtype
from diffcf.io import InterventionError

Units = Literal["scaled", "native"]
"""``"scaled"``: [0, 1], the ends of each factor's range; ``"native"``: the graph's own."""
COMPARISONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "<=": torch.le,
    ">=": torch.ge,
    "==": torch.eq,
    "!=": torch.ne,
    "<": torch.lt,
    ">": torch.gt,
}
WHOLE = 1e-3  # how far from a whole number a number may lie as one: decimals that people leave out


@dataclass(frozen=True)
class Change(ABC):
    """A value of a ``do`` that differs from image to image.

    Attributes:
        units: of its numbers; None for those of the ``do`` it stands in.
    """

    units: Units | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for number in self.numbers():
            if (
                not isinstance(number, int | float)
                or isinstance(number, bool)
                or not math.isfinite(number)
            ):
                raise InterventionError(
                    f"{type(self).__name__} takes finite numbers, not {number!r:.100}."
                )

    def numbers(self) -> Iterator[object]:
        """Those that must be finite: all that it has besides units, unless it says which."""
        return (getattr(self, each.name) for each in fields(self) if each.name != "units")

    def inside(self, factor: Factor, number: float) -> float | None:
        """A number in :attr:`units`, in [0, 1] units; None beyond the factor's range."""
        scaled = float(factor.to_scaled(float(number))) if self.units == "native" else float(number)
        if not -factor.slack <= scaled <= 1 + factor.slack:
            return None
        return min(max(scaled, 0.0), 1.0)

    def within(self, units: Units) -> Self:
        """This change in a ``do`` of these units."""
        return self if self.units is not None else replace(self, units=units)

    @abstractmethod
    def text(self, name: str) -> str:
        """How it is written for people, of the factor ``name``."""

    @abstractmethod
    def check(self, factor: Factor) -> None:
        """InterventionError where it does not fit the factor."""


# --- upon the factual value ---


@dataclass(frozen=True)
class Relative(Change):
    """A change of the factual value, clipped to the range; of integers, to whole numbers."""

    by: float

    def check(self, factor: Factor) -> None:
        if not factor.continuous:
            raise InterventionError(
                f"do({self.text(factor.name)}) changes a {factor.kind} factor, which has no steps: "
                f"set it to one of {factor.domain}."
            )

    def moved(self, factor: Factor, now: Tensor) -> Tensor:
        """Its value ``[B]``, wherever it lies, where the factual one is ``now``; [0, 1] units."""
        now = factor.snap(now) if factor.kind == "integer" else now
        now = now.to(wide_dtype(now))
        if self.units != "native":
            return self.applied(now)
        return factor.to_scaled(self.applied(factor.to_native(now)))

    @abstractmethod
    def applied(self, now: Tensor) -> Tensor:
        """The changed value of ``now``, in its own units."""


@dataclass(frozen=True)
class Shift(Relative):
    """The factual value and ``by``; of an integer factor so many whole steps."""

    def text(self, name: str) -> str:
        return f"{name} {'-' if self.by < 0 else '+'}= {abs(self.by):.3g}"

    def check(self, factor: Factor) -> None:
        super().check(factor)
        if factor.levels is None or (self.units != "native" and factor.scale == "log"):
            return
        steps = self.by if self.units == "native" else self.by * (factor.levels - 1)
        if abs(steps - round(steps)) > WHOLE:
            raise InterventionError(
                f"do({self.text(factor.name)}) moves an integer factor: it goes by whole steps."
            )

    def applied(self, now: Tensor) -> Tensor:
        return now + self.by


@dataclass(frozen=True)
class Scale(Relative):
    """The factual value times ``by``; of an integer factor the nearest whole number."""

    def text(self, name: str) -> str:
        return f"{name} *= {self.by:.3g}"

    def applied(self, now: Tensor) -> Tensor:
        return now * self.by


# --- conditions ---


@dataclass(frozen=True)
class When(Change):
    """``value`` where the factual factor ``cause`` compares so with ``than``, else no intervention.

    Attributes:
        value: a number, a category, a number for each image, or another change.
        cause: name of the factor that decides, by its factual value: any of the graph's.
        comparison: one of :data:`COMPARISONS`.
        than: a number, or a category's name.
    """

    value: float | str | Tensor | Change
    cause: str
    comparison: str
    than: float | str

    def numbers(self) -> Iterator[object]:
        return iter(() if isinstance(self.than, str) else (self.than,))

    def text(self, name: str) -> str:
        inner, than = self.value, self.than
        than = than if isinstance(than, str) else f"{than:.3g}"
        return f"{written(name, inner)} if {self.cause} {self.comparison} {than}"

    def check(self, factor: Factor) -> None:
        if isinstance(self.value, When):
            raise InterventionError(f"do({factor.name}) has two conditions: give it one.")
        if isinstance(self.value, Change):
            self.value.check(factor)

    def holds(self, graph: CausalGraph, factors: Tensor) -> Tensor:
        """Which factual ``factors`` ``[B, K]`` meet the condition, ``[B]`` bool."""
        than = self.threshold(graph)
        column = graph.column(self.cause)
        factor, now = graph.factors[column], factors[:, column]
        now, compare = now.to(wide_dtype(now)), COMPARISONS[self.comparison]
        if factor.levels is not None:
            return compare(factor.to_native(now).round(), round(factor.to_native(than), 6))
        # What lies off the threshold by rounding lies on it.
        return compare(torch.where((now - than).abs() <= factor.slack, than, now), than)

    def threshold(self, graph: CausalGraph) -> float:
        """``than`` in [0, 1] units.

        GraphError for an unknown factor or category, InterventionError for what cannot be compared.
        """
        factor = graph.factors[graph.column(self.cause)]
        told = f"The condition on {self.cause}"
        if self.comparison not in COMPARISONS:
            known = ", ".join(COMPARISONS)
            raise InterventionError(f"{told} compares by {self.comparison!r}: use one of {known}.")
        equal = self.comparison in ("==", "!=")
        if factor.categories and not equal:
            raise InterventionError(
                f"{told} compares categories, which have no order: use == or !=."
            )
        if factor.kind == "continuous" and equal:
            raise InterventionError(
                f"{told} asks for one exact value of a continuous factor: compare by < or >."
            )
        if isinstance(self.than, str):
            return factor.scaled(self.than)
        than = None if factor.categories else self.inside(factor, self.than)
        if than is None:
            known = factor.domain if self.units == "native" or factor.categories else "0 … 1"
            raise InterventionError(
                f"{told} compares with {self.than:.4g}, which is none of its values: {known}."
            )
        return than


def written(name: str, value: object) -> str:
    """A factor and its value in a ``do``, for people.

    >>> written("light", 0.8), written("light", When(Shift(0.2), "angle", "<", 0.3))
    ('light = 0.8', 'light += 0.2 if angle < 0.3')
    """
    if isinstance(value, Change):
        return value.text(name)
    if isinstance(value, Tensor):
        value = float(value) if value.dim() == 0 else "…"
    return f"{name} = {value if isinstance(value, str) else f'{value:.3g}'}"
