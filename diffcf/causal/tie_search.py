"""Ties in a table: which pairs of its columns determine each other (:mod:`diffcf.causal.ties`)."""

from __future__ import annotations

from itertools import combinations
from math import exp, lgamma, log

import numpy as np
import torch
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.ties import Tie, Ties

SAME = 0.02
"""How far from one curve, in units of its range, a continuous factor of any row may lie."""
CHANCE = 1e-6  # of a tie of independent columns, below which it is believed
POINTS = 65  # of a polyline
TRIED_FIRST = 2000  # rows that may rule a tie out before all are sorted


def find_ties(
    graph: CausalGraph,
    factors: Tensor,
    intervened: Tensor | None = None,
) -> Ties:
    """The pairs of factors that all rows leave tied.

    Constant factors are tied to nothing, nor are columns that chance may have made alike.

    Args:
        graph: the factors.
        factors: of the training rows, ``[N, K]`` in [0, 1] units; NaN where one is not observed.
        intervened: which factors somebody set in a row, bool ``[N, K]``. The tie is sought in rows
            where neither was set; it is no tie if it is broken in one where either was.
    """
    factors = factors.detach().cpu().double()
    known = ~factors.isnan()
    was_set = torch.zeros_like(known) if intervened is None else intervened.cpu().bool()
    found = []
    for a, b in combinations(range(len(graph)), 2):
        rows, either = known[:, a] & known[:, b], was_set[:, a] | was_set[:, b]
        tie = _tie(graph.factors[a], graph.factors[b], factors[rows & ~either][:, [a, b]])
        if tie is None:
            continue
        if (rows & either).any() and Ties(graph, [tie]).off(factors[rows & either].float()).any():
            continue
        found.append(tie)
    return Ties(graph, found)


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
