"""What a table of factors does not determine: functions of other factors, combinations never seen.

A factor that others determine is never seen to disagree with them, so the table does not teach what
setting it alone would look like. (Where each of two factors determines the other, nothing even
tells their names apart: :mod:`diffcf.causal.ties`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Generator, Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.tie_search import find_ties
from diffcf.causal.ties import Function, Ties

FUNCTION = 0.05
"""Error of predicting a factor from others, relative to that of its median or most frequent level,
below which it counts as their function, where one of them is continuous."""
FEWEST = 50  # rows that tell a function
ASKED, KNOWN = 256, 4096  # rows that are predicted, and from which
NEIGHBOURS = 16
LEVELS = 1e5  # of discrete factors are told apart
PAIRS_UP_TO = 12  # factors: with more of them, no pairs of causes are tried
EXPECTED = 5.0
"""Rows that a combination would have by chance, from which its absence is worth a word."""
THIRDS = ("lower", "middle", "upper")


@dataclass(frozen=True)
class Unseen:
    """A pair of values that no row has, as text, and how many rows would have it by chance."""

    factors: tuple[str, str]
    values: tuple[str, str]
    expected: float


# --- of a data module ---


def ties_of_data(graph: CausalGraph, data: object) -> Ties | None:
    """Ties and functions in the training split of a data module; None where it tells no factors.

    A module may tell what was set in its rows, by ``intervened_of(split)``, bool ``[N, K]``.
    """
    factors_of = getattr(data, "factors_of", None)
    if factors_of is None:
        return None
    factors, intervened = factors_of("train"), intervened_of(data)
    ties = find_ties(graph, factors, intervened)
    functions = find_functions(graph, factors, intervened, ties)
    return Ties(graph, ties.all, functions)


def intervened_of(data: object, split: str = "train") -> Tensor | None:
    """Which factors somebody set in the rows of a split, bool ``[N, K]``; None for none."""
    told = getattr(data, "intervened_of", None)
    intervened: Tensor | None = None if told is None else told(split)
    return intervened


# --- functions ---


def find_functions(
    graph: CausalGraph,
    factors: Tensor,
    intervened: Tensor | None = None,
    ties: Ties | None = None,
) -> list[Function]:
    """The factors that others, none of which they cause, determine: each by as few as possible.

    Tried are single factors, then the causes in the graph, then pairs. Effects of a factor are left
    out, since they follow it when it is set.

    Args:
        graph: the factors.
        factors: of the training rows, ``[N, K]`` in [0, 1] units; NaN where one is not observed.
        intervened: which factors somebody set in a row, bool ``[N, K]``: what was set anywhere is
            taught, whatever determines it elsewhere.
        ties: of these rows, which are not told again; None finds them.
    """
    if ties is None:
        ties = find_ties(graph, factors, intervened)
    found = []
    for column, name in enumerate(graph.names):
        if intervened is not None and intervened[:, column].any():
            continue
        for causes in _candidates(graph, name, ties):
            error = _error(graph, factors, name, causes)
            if error is not None and _needed(graph, factors, name, causes, error):
                found.append(Function(name, causes, error))
                break
    return found


def _candidates(graph: CausalGraph, name: str, ties: Ties) -> Iterator[tuple[str, ...]]:
    left_out = {name, *graph.descendants(name), *ties.partners(name)}
    others = [other for other in graph.names if other not in left_out]
    yield from ((other,) for other in others)
    causes = graph.parents(name)
    if len(causes) > 1 and not set(causes) & set(ties.partners(name)):
        yield causes
    if len(graph) <= PAIRS_UP_TO:
        yield from combinations(others, 2)


def _error(graph: CausalGraph, factors: Tensor, effect: str, causes: Sequence[str]) -> float | None:
    """How far a factor is from being a function of others, if it is one, else None."""
    if any(graph.factors[graph.column(name)].continuous for name in (effect, *causes)):
        errors = prediction_error(graph, factors, effect, causes)
        return errors[0] if errors is not None and errors[0] <= FUNCTION * errors[1] else None
    chosen = factors[:, [graph.column(name) for name in (*causes, effect)]]
    levels = (chosen[~chosen.isnan().any(dim=1)].double() * LEVELS).round()
    _, group, sizes = torch.unique(levels[:, :-1], dim=0, return_inverse=True, return_counts=True)
    levels = levels[sizes[group] > 1]  # a single row agrees with itself
    if len(levels) < FEWEST or levels[:, -1].min() == levels[:, -1].max():
        return None
    cells, groups = (len(torch.unique(part, dim=0)) for part in (levels, levels[:, :-1]))
    return 0.0 if cells == groups else None


def _needed(
    graph: CausalGraph, factors: Tensor, effect: str, causes: tuple[str, ...], error: float
) -> bool:
    """Whether a pair of causes tells twice as much as either; the causes in the graph all count."""
    if len(causes) != 2 or set(causes) == set(graph.parents(effect)):
        return True
    alone = (prediction_error(graph, factors, effect, (cause,)) for cause in causes)
    return all(errors is not None and error < 0.5 * errors[0] for errors in alone)


def prediction_error(
    graph: CausalGraph, factors: Tensor, effect: str, causes: Sequence[str]
) -> tuple[float, float] | None:
    """Mean error of a factor predicted from the rows nearest in its ``causes``, and without them.

    A continuous factor is predicted by a plane through its neighbours, a discrete one by their most
    frequent level; without causes by its median and its most frequent level. Errors are in units of
    the range, or shares of wrong levels. The row itself is no neighbour. None where the factor is
    constant or rows are few.
    """
    factor = graph.factors[graph.column(effect)]
    columns = [graph.column(name) for name in causes]
    rows = factors[~factors[:, [*columns, graph.column(effect)]].isnan().any(dim=1)].double().cpu()
    if len(rows) < FEWEST:
        return None
    order = torch.randperm(len(rows), generator=Generator().manual_seed(0))
    rows = rows[order[:KNOWN]]
    target, given = rows[:, graph.column(effect)], rows[:, columns]
    middle = target.median() if factor.continuous else target.mode().values
    plain = _errors(factor, middle.expand_as(target), target)
    if plain == 0:
        return None
    kinds = CausalGraph([graph.factors[column] for column in columns])
    place = kinds.encode(given)
    distance = torch.cdist(place[:ASKED], place)
    distance.fill_diagonal_(torch.inf)
    near, chosen = distance.topk(min(NEIGHBOURS, len(rows) - 1), largest=False)
    if factor.continuous:
        offsets = (given[chosen] - given[:ASKED, None])[..., ~kinds.discrete]
        predicted = _planes(offsets, target[chosen], near)
    else:
        predicted = target[chosen].mode(dim=1).values
    return _errors(factor, predicted, target[:ASKED]), plain


def _planes(offsets: Tensor, values: Tensor, distance: Tensor) -> Tensor:
    """Values at the origin ``[Q]`` of planes fitted to neighbours: their ``offsets`` ``[Q, k, D]``,
    ``values`` ``[Q, k]`` and ``distance`` ``[Q, k]``, by which the far ones count less."""
    scale = distance.median(dim=1, keepdim=True).values + 1e-6
    weight = torch.exp(-(distance / scale).square())
    design = torch.cat([torch.ones_like(values)[..., None], offsets], dim=-1)
    weighted = design * weight[..., None]
    slack = torch.eye(design.shape[-1], dtype=design.dtype) * 1e-9
    gram = weighted.transpose(1, 2) @ design + slack
    fitted: Tensor = torch.linalg.solve(gram, weighted.transpose(1, 2) @ values[..., None])[:, 0, 0]
    return fitted.clamp(values.amin(dim=1), values.amax(dim=1))


def _errors(factor: Factor, predicted: Tensor, target: Tensor) -> float:
    distance = (predicted - target).abs()
    wrong = distance if factor.continuous else (distance > 0.25 / max(factor.width - 1, 1)).double()
    return float(wrong.mean())


# --- combinations ---


def find_unseen(graph: CausalGraph, factors: Tensor, ties: Ties | None = None) -> list[Unseen]:
    """Pairs of values that no row of ``factors`` ``[N, K]`` has, the most surprising first.

    Continuous factors count by thirds of the rows. Told are pairs that :data:`EXPECTED` rows would
    have if the two factors were independent; those of ``ties`` are not.
    """
    columns = factors.cpu().T.contiguous()
    groups = [_groups(factor, each) for factor, each in zip(graph.factors, columns, strict=True)]
    found = []
    for a, b in combinations(range(len(graph)), 2):
        names = graph.names[a], graph.names[b]
        (first, words), (second, other_words) = groups[a], groups[b]
        if ties is not None and names[1] in ties.partners(names[0]):
            continue
        known = (first >= 0) & (second >= 0)
        cells = first[known] * len(other_words) + second[known]
        counts = torch.bincount(cells, minlength=len(words) * len(other_words)).double()
        counts = counts.reshape(len(words), len(other_words))
        expected = counts.sum(1, keepdim=True) * counts.sum(0) / counts.sum().clamp_min(1)
        for i, j in ((counts == 0) & (expected >= EXPECTED)).nonzero().tolist():
            found.append(Unseen(names, (words[i], other_words[j]), float(expected[i, j])))
    return sorted(found, key=lambda unseen: -unseen.expected)


def _groups(factor: Factor, column: Tensor) -> tuple[Tensor, list[str]]:
    """The group of each row, ``[N]`` (-1 where not observed), and what the groups are called."""
    if factor.continuous:
        known = column[~column.isnan()]
        if not len(known):
            return torch.full(column.shape, -1), [""]
        ends = torch.quantile(known.double(), torch.tensor([1 / 3, 2 / 3]).double()).to(column)
        place = torch.bucketize(column, ends)
        words = [f"in its {third} third" for third in THIRDS]
    else:
        last = max(factor.width, 2) - 1
        place = (column.nan_to_num() * last).round().long()
        words = list(factor.categories or ("0", "1"))
    return torch.where(column.isnan(), -1, place), words
