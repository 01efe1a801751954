"""Taking turns by the clock: what is compared runs in one process, one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

__all__ = ["Row", "ratio_rows", "seconds"]


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
            _wait(device)
            started = time.perf_counter()
            turn()
            _wait(device)
            taken[name].append(time.perf_counter() - started)
    return taken


def ratio_rows(
    taken: Mapping[str, list[float]],
    base: str,
    titles: Mapping[str, str],
    targets: Mapping[str, str] | None = None,
) -> list[Row]:
    """A row for each of ``titles``: the median of the rounds' ratios to ``base``."""
    rows = []
    for name, title in titles.items():
        ratios = [a / b for a, b in zip(taken[name], taken[base], strict=True)]
        spread = (min(ratios), max(ratios))
        rows.append(Row(title, median(ratios), "ratio", spread, (targets or {}).get(name, "")))
    return rows


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
