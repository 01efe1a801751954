"""How fast it is, by ``diffcf bench``: ratios of what is timed in alternation, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.io import now

Call = Callable[[], object]


def first_set(graph: CausalGraph, values: Tensor) -> dict[str, Tensor]:
    """What sets the first factor, to the nearest of ``values`` ``[B]`` in [0, 1] that it can have.

    >>> from diffcf.causal import Factor
    >>> first_set(CausalGraph([Factor("male", "binary")]), torch.tensor([0.2, 0.7]))
    {'male': tensor([0., 1.])}
    """
    name = graph.order[0]
    return {name: graph.factors[graph.column(name)].snap(values)}


@dataclass(frozen=True)
class Row:
    """A line of the table: the median over the rounds, and the least and largest of them.

    ``target`` is what the value should be, in words; empty for none.
    """

    what: str
    value: float
    unit: str = "ratio"
    spread: tuple[float, float] | None = None
    target: str = ""

    @classmethod
    def over(cls, what: str, rounds: Sequence[float], unit: str, target: str = "") -> Self:
        return cls(what, median(rounds), unit, (min(rounds), max(rounds)), target)


def seconds(
    turns: Mapping[str, Call], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Wall time of each of ``turns`` in every round, after a first round that does not count.

    A machine that is slow for a while is so for all of them, and ratios within a round hold.
    """
    for turn in turns.values():
        turn()
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            started = now(device)
            turn()
            taken[name].append(now(device) - started)
    return taken


def ratio_rows(
    taken: Mapping[str, list[float]],
    base: str,
    titles: Mapping[str, str],
    targets: Mapping[str, str] | None = None,
) -> list[Row]:
    """A row for each of ``titles``: the median of the rounds' ratios to ``base``."""
    return [
        ratio_row(title, taken[name], taken[base], (targets or {}).get(name, ""))
        for name, title in titles.items()
    ]


def ratio_row(what: str, ours: Sequence[float], base: Sequence[float], target: str = "") -> Row:
    """The median of the rounds' ratios of ``ours`` to ``base``."""
    return Row.over(what, [a / b for a, b in zip(ours, base, strict=True)], "ratio", target)
