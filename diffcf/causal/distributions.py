"""Soft interventions: a factor is drawn from a distribution, whatever its factual value is.

:mod:`diffcf.causal.changes` says how they are written and what becomes of them.

Reference: A calculus for stochastic interventions (Correa & Bareinboim, 2020),
https://doi.org/10.1609/aaai.v34i06.6567
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal.changes import Change
from diffcf.causal.factor import Factor
from diffcf.io import InterventionError


@dataclass(frozen=True)
class Distribution(Change):
    """A value drawn anew for each image, whatever the factual one is."""

    @abstractmethod
    def draw(self, factor: Factor, uniform: Tensor) -> Tensor:
        """Values ``[B]`` in [0, 1] units, by ``uniform`` noise ``[B]`` in [0, 1]."""

    def refused(self, factor: Factor, why: str) -> InterventionError:
        return InterventionError(f"do({self.text(factor.name)}) {why}.")

    def scaled(self, factor: Factor, value: float) -> float:
        """A value in [0, 1] units; InterventionError beyond the range."""
        scaled = self.inside(factor, value)
        if scaled is None:
            ends = factor.domain if self.units == "native" else "0 … 1"
            why = f"has a support that leaves the factor's range, {ends}: stay inside it"
            raise self.refused(factor, why)
        return scaled

    def numeric(self, factor: Factor) -> None:
        """InterventionError for a factor that is no number."""
        if not factor.continuous:
            other = "bernoulli:p" if factor.kind == "binary" else "choice:a,b"
            raise self.refused(factor, f"draws numbers for a {factor.kind} factor: write ~{other}")


@dataclass(frozen=True)
class Uniform(Distribution):
    """Any number of [low, high], or whole number, is as likely."""

    low: float
    high: float

    def text(self, name: str) -> str:
        return f"{name} ~ uniform:{self.low:.3g}:{self.high:.3g}"

    def check(self, factor: Factor) -> None:
        self.numeric(factor)
        if not self.low < self.high:
            raise self.refused(factor, "has its low end not below its high end")
        ends = torch.tensor([self.scaled(factor, end) for end in (self.low, self.high)])
        if factor.levels is not None and not factor.is_level(ends).all():
            raise self.refused(factor, "draws whole numbers: its ends must be some")

    def draw(self, factor: Factor, uniform: Tensor) -> Tensor:
        low, high = (self.scaled(factor, end) for end in (self.low, self.high))
        if factor.kind == "integer":
            first, last = (round(factor.to_native(end)) for end in (low, high))
            steps: Tensor = (uniform * (last - first + 1)).floor().clamp(max=last - first)
            return factor.to_scaled(first + steps)
        if self.units != "native":
            return low + (high - low) * uniform
        return factor.to_scaled(self.low + (self.high - self.low) * uniform)


@dataclass(frozen=True)
class Normal(Distribution):
    """A normal number, cut off at the ends of the factor's range; of integers the nearest."""

    mean: float
    std: float

    def text(self, name: str) -> str:
        return f"{name} ~ normal:{self.mean:.3g}:{self.std:.3g}"

    def check(self, factor: Factor) -> None:
        self.numeric(factor)
        if self.std <= 0:
            raise self.refused(factor, "has a deviation that is not above 0")
        self.scaled(factor, self.mean)

    def draw(self, factor: Factor, uniform: Tensor) -> Tensor:
        native = self.units == "native"
        low, high = (factor.low, factor.high) if native else (0.0, 1.0)
        ends = uniform.new_tensor([(end - self.mean) / self.std for end in (low, high)])
        first, last = torch.special.ndtr(ends)
        share = (first + uniform * (last - first)).clamp(1e-12, 1 - 1e-12)
        value: Tensor = (self.mean + self.std * torch.special.ndtri(share)).clamp(low, high)
        return factor.to_scaled(value) if native else value


@dataclass(frozen=True)
class Choice(Distribution):
    """One of some ``values``, categories by name; each is as likely as it is often named."""

    values: tuple[float | str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        super().__post_init__()

    def numbers(self) -> Iterator[object]:
        return (value for value in self.values if not isinstance(value, str))

    def text(self, name: str) -> str:
        values = (value if isinstance(value, str) else f"{value:.3g}" for value in self.values)
        return f"{name} ~ choice:{','.join(values)}"

    def check(self, factor: Factor) -> None:
        if not self.values:
            raise self.refused(factor, "names nothing to choose from")
        levels = torch.tensor(self._levels(factor))
        if factor.levels is not None and not factor.is_level(levels).all():
            raise self.refused(factor, f"names what is none of {factor.domain}")

    def draw(self, factor: Factor, uniform: Tensor) -> Tensor:
        levels = uniform.new_tensor(self._levels(factor))
        chosen: Tensor = levels[(uniform * len(levels)).long().clamp(max=len(levels) - 1)]
        return chosen

    def _levels(self, factor: Factor) -> list[float]:
        """The values in [0, 1] units; GraphError for an unknown category."""
        pairs = ((value, isinstance(value, str)) for value in self.values)
        return [
            factor.scaled(str(value)) if named else self.scaled(factor, float(value))
            for value, named in pairs
        ]


@dataclass(frozen=True)
class Bernoulli(Distribution):
    """1 with a ``probability``, else 0: of a binary factor."""

    probability: float

    def text(self, name: str) -> str:
        return f"{name} ~ bernoulli:{self.probability:.3g}"

    def check(self, factor: Factor) -> None:
        if factor.kind != "binary":
            raise self.refused(factor, f"draws 0 or 1 for a {factor.kind} factor, not a binary one")
        if not 0 <= self.probability <= 1:
            raise self.refused(factor, "has a probability outside [0, 1]")

    def draw(self, factor: Factor, uniform: Tensor) -> Tensor:
        return (uniform < self.probability).to(uniform.dtype)
