r"""Ties: pairs of factors of which each is a function of the other in every image.

Where Shadow's floor always has the colour of its light, no cut of a picture tells which of the two
names speaks of which part of it. What sets both together, as the light does whose floor follows, is
taught by the data; what sets one of them away from the other is *undetermined*, whatever is learned
from these images. What settles it is a hint where a factor is written, or images in which somebody
set one of the two.

A tie is kept as points of the curve on which all pairs of values lie: the pairs of levels of
discrete factors, a monotone polyline of continuous ones.

Beside ties stand *functions*: factors that several others determine, but not the other way round,
as size and light determine the area of a shadow. What sets a cause, and lets the function follow,
is taught; what sets the effect against its causes is not, unless by composites
(:mod:`diffcf.networks.region_mixing`) or images in which it was set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.io import GraphError

OFF = 0.05
"""How far off the curve, in units of its range, a continuous factor breaks the tie: more than a
causal model's errors."""
MOST_POINTS = 1000


@dataclass(frozen=True)
class Tie:
    """Two factors that determine each other; ``points`` are pairs of their values in [0, 1]."""

    first: str
    second: str
    points: tuple[tuple[float, float], ...]

    @property
    def names(self) -> tuple[str, str]:
        return self.first, self.second

    def other(self, name: str) -> str:
        return self.second if name == self.first else self.first


@dataclass(frozen=True)
class Function:
    """A factor that others determine; ``error`` is the mean one, in units of the factor's range,
    or the share of wrong levels."""

    effect: str
    causes: tuple[str, ...]
    error: float


class Ties:
    """What the training data leave undetermined of interventions on the factors of ``graph``.

    GraphError where a tie or a function names a factor that the graph lacks.
    """

    def __init__(
        self, graph: CausalGraph, ties: Sequence[Tie] = (), functions: Sequence[Function] = ()
    ) -> None:
        self.graph, self.all, self.functions = graph, tuple(ties), tuple(functions)
        known = {name for function in functions for name in (function.effect, *function.causes)}
        effects = {function.effect for function in functions}
        columns = {name: graph.column(name) for name in sorted(known)}
        self._effects = torch.zeros(len(graph), dtype=torch.bool)
        self._effects[[columns[name] for name in effects]] = True
        self._widths = torch.tensor([_tolerance(factor, OFF) for factor in graph.factors])
        pairs = [(graph.column(tie.first), graph.column(tie.second)) for tie in self.all]
        self._columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        self._members = torch.zeros(len(pairs), len(graph)).scatter(1, self._columns, 1.0)
        self._tolerance = self._widths[self._columns]
        longest = max((len(tie.points) for tie in self.all), default=1)
        filled = [[*tie.points, *[tie.points[-1]] * (longest - len(tie.points))] for tie in ties]
        self._points = torch.tensor(filled).reshape(-1, longest, 2)

    def __len__(self) -> int:
        return len(self.all)

    def partners(self, name: str) -> tuple[str, ...]:
        """The factors that ``name`` is tied to."""
        return tuple(tie.other(name) for tie in self.all if name in tie.names)

    def without(self, names: Collection[str]) -> Ties:
        """Those ties of which no factor, and functions whose effect is not, among ``names``."""
        left = [tie for tie in self.all if not set(tie.names) & set(names)]
        return Ties(self.graph, left, [f for f in self.functions if f.effect not in names])

    def without_functions(self) -> Ties:
        """The ties alone, for a method that learns to set the effects of functions."""
        return Ties(self.graph, self.all)

    def sentence(self, name: str) -> str:
        """Why a change of ``name`` alone is not determined, for people."""
        others = " and ".join(self.partners(name))
        for function in self.functions:
            if function.effect == name and not others:
                *first, last = function.causes
                causes = f"{', '.join(first)} and {last}" if first else last
                return (
                    f"{name} is not determined: it follows from {causes} in every training image, "
                    "and nothing in them shows it set against them."
                )
        return (
            f"{name} is not determined: it goes with {others} in every training image, and nothing "
            "in them tells which of the names is which part of the picture."
        )

    def off(self, factors: Tensor) -> Tensor:
        """Which ties factors ``[B, K]`` in [0, 1] units break, bool ``[B, T]``."""
        pairs = factors[:, self._columns.to(factors.device, non_blocking=True)]
        points = self._points.to(factors, non_blocking=True)
        tolerance = self._tolerance.to(factors, non_blocking=True)
        distance = (pairs[:, :, None] - points).abs() / tolerance[:, None]
        return distance.amax(dim=-1).amin(dim=-1) > 1

    @property
    def effects(self) -> Tensor:
        """Which factors are effects of functions, bool ``[K]``."""
        return self._effects

    def undetermined(
        self, factual: Tensor, target: Tensor, followed: Tensor | None = None
    ) -> Tensor:
        """Factors whose change from ``factual`` to ``target``, ``[B, K]``, the data do not teach.

        They are those of a tie that holds before and no longer afterwards, as far as they move;
        bool ``[B, K]``. So a factor may be set if what it is tied to follows. And they are the
        effects of functions that are set to something else than what follows from their causes:
        ``followed`` ``[B, K]`` are the factors had no effect of a function been set; None where
        none was.
        """
        missed = torch.zeros_like(factual, dtype=torch.bool)
        if self.all:
            broken = self.off(target) & ~self.off(factual)
            members = self._members.to(factual, non_blocking=True)
            missed = (broken.to(factual) @ members > 0) & (factual != target)
        if followed is not None:
            tolerance = self._widths.to(factual, non_blocking=True)
            away = (target - followed).abs() > tolerance
            missed = missed | (away & self._effects.to(factual.device, non_blocking=True))
        return missed

    def completed(self, factors: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Factors ``[B, K]`` with a tied one that is not ``told`` as the told one has it in the
        data; and which are known then. Both flags are bool ``[K]`` in main memory."""
        values, known = factors.clone(), told.clone()
        every = self._points.to(factors, non_blocking=True)
        for points, pair in zip(every, self._columns.tolist(), strict=True):
            flags = told[pair].tolist()
            if flags[0] == flags[1]:
                continue
            given, other = (0, 1) if flags[0] else (1, 0)
            distance = (factors[:, pair[given], None] - points[:, given]).abs()
            values[:, pair[other]] = points[distance.argmin(dim=1), other]
            known[pair[other]] = True
        return values, known

    def to_spec(self) -> list[dict[str, object]]:
        """Primitive description; :meth:`from_spec` reads it back."""
        ties: list[dict[str, object]] = [
            {"factors": [*tie.names], "points": [list(point) for point in tie.points]}
            for tie in self.all
        ]
        functions = [
            {"effect": f.effect, "causes": list(f.causes), "error": f.error} for f in self.functions
        ]
        return [*ties, *functions]

    @classmethod
    def from_spec(cls, graph: CausalGraph, spec: object) -> Ties:
        """Read what :meth:`to_spec` wrote; GraphError for anything else."""
        if not isinstance(spec, list):
            raise GraphError(f"Ties of factors are a list, not {spec!r:.100}.")
        functions = [each for each in spec if isinstance(each, Mapping) and "effect" in each]
        ties = [each for each in spec if each not in functions]
        return cls(graph, list(map(_tie_of, ties)), list(map(_function_of, functions)))


def _function_of(described: Mapping[str, object]) -> Function:
    effect, causes, error = (described.get(key) for key in ("effect", "causes", "error"))
    named = isinstance(causes, list) and causes and all(isinstance(name, str) for name in causes)
    if not isinstance(effect, str) or not named or not _is_number(error):
        raise GraphError(
            f"A function has an effect, causes and an error, unlike {described!r:.100}."
        )
    return Function(effect, tuple(causes), float(error))  # type: ignore[arg-type]


def _tie_of(described: object) -> Tie:
    names = described.get("factors") if isinstance(described, Mapping) else None
    points = described.get("points") if isinstance(described, Mapping) else None
    if not isinstance(names, list) or len(names) != 2 or not all(isinstance(n, str) for n in names):
        raise GraphError(f"A tie names two factors, unlike {described!r:.100}.")
    if not isinstance(points, list) or not 1 <= len(points) <= MOST_POINTS:
        raise GraphError(f"A tie has 1 to {MOST_POINTS} points, unlike {described!r:.100}.")
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            raise GraphError(f"A tie's points are pairs of numbers, not {point!r:.100}.")
    first, second = names
    return Tie(first, second, tuple((float(x), float(y)) for x, y in points))


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and isfinite(value)  # type: ignore[arg-type]


def _tolerance(factor: Factor, continuous: float) -> float:
    """``continuous``, or a quarter of the step between levels of a discrete factor."""
    return continuous if factor.continuous else 0.25 / (max(factor.width, 2) - 1)
