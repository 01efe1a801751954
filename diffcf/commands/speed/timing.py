"""Taking turns by the clock: what is compared runs in one process, one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from diffcf.io import now


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was measured.
        value: a median over the turns.
        unit: of ``value``; "ratio" where it is one.
        spread: least and largest of the turns.
        target: what it should be, in words; empty for none.
    """

    what: str
    value: float
    unit: str = "ratio"
    spread: tuple[float, float] | None = None
    target: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def seconds(
    turns: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Wall time of every turn of each; all run once before, and then one after another.

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
    ratios = [a / b for a, b in zip(ours, base, strict=True)]
    return Row(what, median(ratios), "ratio", (min(ratios), max(ratios)), target)
