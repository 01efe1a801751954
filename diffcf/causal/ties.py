r"""Ties: pairs of factors of which each is a function of the other in every image.

Where Shadow's floor always has the colour of its light, no cut of a picture tells which of the two
names speaks of which part of it. What sets both together, as the light does whose floor follows, is
taught by the data; what sets one of them away from the other is *undetermined*, whatever is learned
from these images. What settles it is a hint where a factor is written, or images in which somebody
set one of the two.

A tie is kept as points of the curve on which all pairs of values lie: the pairs of levels of
discrete factors, a monotone polyline of continuous ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, isfinite, lgamma, log

import numpy as np
import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.io import GraphError

SAME = 0.02
"""How far from one curve, in units of its range, a continuous factor of any row may lie."""
OFF = 0.05
"""How far off the curve, in units of its range, a continuous factor breaks the tie: more than a
causal model's errors."""
CHANCE = 1e-6  # of a tie of independent columns, below which it is believed
POINTS = 65  # of a polyline
MOST_POINTS = 1000
TRIED_FIRST = 2000  # rows that may rule a tie out before all are sorted


@dataclass(frozen=True)
class Tie:
    """Two factors that determine each other; ``points`` are pairs of their values in [0, 1]."""

    first: str
    second: str
    points: tuple[tuple[float, float], ...]

    def other(self, name: str) -> str:
        return self.second if name == self.first else self.first


class Ties:
    """The ties among the factors of ``graph``; GraphError where one names a factor it lacks."""

    def __init__(self, graph: CausalGraph, ties: Sequence[Tie] = ()) -> None:
        self.graph, self.all = graph, tuple(ties)
        pairs = [(graph.column(tie.first), graph.column(tie.second)) for tie in self.all]
        self._columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
        self._members = torch.zeros(len(pairs), len(graph)).scatter(1, self._columns, 1.0)
        widths = torch.tensor([_tolerance(factor, OFF) for factor in graph.factors])
        self._tolerance = widths[self._columns]
        longest = max((len(tie.points) for tie in self.all), default=1)
        filled = [[*tie.points, *[tie.points[-1]] * (longest - len(tie.points))] for tie in ties]
        self._points = torch.tensor(filled).reshape(-1, longest, 2)

    def __len__(self) -> int:
        return len(self.all)

    def partners(self, name: str) -> tuple[str, ...]:
        """The factors that ``name`` is tied to."""
        return tuple(tie.other(name) for tie in self.all if name in (tie.first, tie.second))

    def without(self, names: Collection[str]) -> Ties:
        """Those of which no factor is among ``names``, such as the hinted ones."""
        left = [tie for tie in self.all if not {tie.first, tie.second} & set(names)]
        return Ties(self.graph, left)

    def sentence(self, name: str) -> str:
        """Why a change of ``name`` alone is not determined, for people."""
        others = " and ".join(self.partners(name))
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

    def undetermined(self, factual: Tensor, target: Tensor) -> Tensor:
        """Factors whose change from ``factual`` to ``target``, ``[B, K]``, the data do not teach.

        They are those of a tie that holds before and no longer afterwards, as far as they move;
        bool ``[B, K]``. So a factor may be set if what it is tied to follows.
        """
        if not self.all:
            return torch.zeros_like(factual, dtype=torch.bool)
        broken = self.off(target) & ~self.off(factual)
        members = self._members.to(factual, non_blocking=True)
        return (broken.to(factual) @ members > 0) & (factual != target)

    def to_spec(self) -> list[dict[str, object]]:
        """Primitive description; :meth:`from_spec` reads it back."""
        return [
            {"factors": [tie.first, tie.second], "points": [list(point) for point in tie.points]}
            for tie in self.all
        ]

    @classmethod
    def from_spec(cls, graph: CausalGraph, spec: object) -> Ties:
        """Read what :meth:`to_spec` wrote; GraphError for anything else."""
        if not isinstance(spec, list):
            raise GraphError(f"Ties of factors are a list, not {spec!r:.100}.")
        return cls(graph, list(map(_tie_of, spec)))


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


# --- from data ---


def find_ties(
    graph: CausalGraph,
    factors: Tensor,
    intervened: Tensor | None = None,
    hinted: Collection[str] = (),
) -> Ties:
    """The pairs of factors that all rows leave tied.

    Constant factors are tied to nothing, nor are columns that chance may have made alike.

    Args:
        graph: the factors.
        factors: of the training rows, ``[N, K]`` in [0, 1] units; NaN where one is not observed.
        intervened: which factors somebody set in a row, bool ``[N, K]``. The tie is sought in rows
            where neither was set; it is no tie if it is broken in one where either was.
        hinted: names of factors of which a hint says where in the picture they are written: the
            data need not tell them from others.
    """
    factors = factors.detach().cpu().double()
    known = ~factors.isnan()
    was_set = torch.zeros_like(known) if intervened is None else intervened.cpu().bool()
    found = []
    for a, b in combinations(range(len(graph)), 2):
        if {graph.names[a], graph.names[b]} & set(hinted):
            continue
        rows, either = known[:, a] & known[:, b], was_set[:, a] | was_set[:, b]
        tie = _tie(graph.factors[a], graph.factors[b], factors[rows & ~either][:, [a, b]])
        if tie is None:
            continue
        if (rows & either).any() and Ties(graph, [tie]).off(factors[rows & either].float()).any():
            continue
        found.append(tie)
    return Ties(graph, found)


def ties_of_data(graph: CausalGraph, data: object, hinted: Collection[str] = ()) -> Ties | None:
    """Those of the training split of a data module; None where it tells no factors.

    A module may tell what was set in its rows, by ``intervened_of(split)``, bool ``[N, K]``.
    """
    factors_of = getattr(data, "factors_of", None)
    if factors_of is None:
        return None
    return find_ties(graph, factors_of("train"), intervened_of(data), hinted)


def intervened_of(data: object, split: str = "train") -> Tensor | None:
    """Which factors somebody set in the rows of a split, bool ``[N, K]``; None for none."""
    told = getattr(data, "intervened_of", None)
    intervened: Tensor | None = None if told is None else told(split)
    return intervened


def _tie(first: Factor, second: Factor, rows: Tensor) -> Tie | None:
    """The tie of two columns ``[N, 2]`` without NaN, if they have one."""
    if not len(rows) or (rows.min(dim=0).values == rows.max(dim=0).values).any():
        return None
    tried, points = [rows], None
    if len(rows) > TRIED_FIRST:  # at random: rows of a grid come in periods
        generator = torch.Generator().manual_seed(0)
        tried.insert(0, rows[torch.randperm(len(rows), generator=generator)[:TRIED_FIRST]])
    for some in tried:
        x, y = (_levels(f, c) for f, c in zip((first, second), some.T, strict=True))
        if not first.continuous:
            points = _pairs(x, y)
        elif not second.continuous:
            points = [(a, b) for b, a in _pairs(y, x) or []]
        else:
            points = _curve(x, y)
        if not points:
            return None
    if points is None or _chance(first, second, rows) > CHANCE:
        return None
    return Tie(first.name, second.name, tuple((round(a, 5), round(b, 5)) for a, b in points))


def _levels(factor: Factor, column: Tensor) -> Tensor:
    """A column ``[N]`` at its levels where the factor is discrete, so that rounding is nothing."""
    if factor.continuous:
        return column
    last = max(factor.width, 2) - 1
    return (column * last).round() / last


def _pairs(levels: Tensor, values: Tensor) -> list[tuple[float, float]] | None:
    """Every level of a column ``[N]`` with its value of another ``[N]``, if it has values of its
    own, all the same; they may be levels, too."""
    seen, group = torch.unique(levels, return_inverse=True)
    start = values.new_zeros(len(seen))
    low = start.scatter_reduce(0, group, values, "amin", include_self=False)
    high = start.scatter_reduce(0, group, values, "amax", include_self=False)
    order = low.argsort()
    apart = (high[order][:-1] < low[order][1:]).all()
    if not apart or (high - low).max() > SAME:
        return None
    return list(zip(seen.tolist(), ((low + high) / 2).tolist(), strict=True))


def _curve(x: Tensor, y: Tensor) -> list[tuple[float, float]] | None:
    """Points of the monotone curve on which continuous columns ``[N]`` lie, if they lie on one."""
    falls = ((x - x.mean()) * (y - y.mean())).sum() < 0
    y = -y if falls else y
    if not (_rises(x, y) and _rises(y, x)):
        return None
    xs, ys = x.sort().values, y.sort().values  # rising and without the columns' errors
    ys = ys if not falls else -ys
    length = np.concatenate([[0.0], (xs.diff().abs() + ys.diff().abs()).cumsum(0).numpy()])
    places = np.linspace(0.0, length[-1], POINTS)
    return list(
        zip(
            *(np.interp(places, length, column.numpy()).tolist() for column in (xs, ys)),
            strict=True,
        )
    )


def _rises(x: Tensor, y: Tensor) -> bool:
    """Whether y ``[N]`` is a rising function of x ``[N]``, up to :data:`SAME`."""
    order = np.lexsort([-y.numpy(), x.numpy()])  # of rows with one x, the highest y first
    sorted_y = y[torch.from_numpy(order)]
    return bool((sorted_y.cummax(0).values - sorted_y).max() <= SAME)


def _chance(first: Factor, second: Factor, rows: Tensor) -> float:
    """How likely two columns ``[N, 2]`` are to be tied by chance, by permutation of one of them.

    Of N! / (N_1! N_2! …) ways to deal out the values of a column, each as often as it occurs, L! of
    L levels, or the rising and the falling one, make a tie.
    """
    chances = []
    for factor, column in zip((first, second), rows.T, strict=True):
        bins = column if not factor.continuous else (column / SAME).round()
        counts = torch.unique(bins, return_counts=True)[1].tolist()
        ways = lgamma(len(column) + 1) - sum(lgamma(count + 1) for count in counts)
        ties = log(2) if factor.continuous else lgamma(len(counts) + 1)
        chances.append(exp(min(0.0, ties - ways)))
    return max(chances)
