"""What interventional images are worth: errors by how many of them a training saw, a line for each
model that several trainings share. Needs no matplotlib."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from math import expm1, log1p
from statistics import fmean
from typing import Any, NamedTuple

from diffcf.io import is_whole
from diffcf.reporting.measures import Statistic, columns, long_table, statistics
from diffcf.reporting.results import MethodResults, Record
from diffcf.reporting.tables import Cell, ComparisonTable, Row

_ROOTS, _LEAVES = "ACM roots", "ACM leaves"
_SHOWN = columns(_ROOTS, _LEAVES)


class Line(NamedTuple):
    """What trainings of one model reached, by the number of interventional images, rising."""

    label: str
    roots: Mapping[int, Statistic]
    leaves: Mapping[int, Statistic]


class Lines(NamedTuple):
    """All lines of a dataset, and the ACM of leaves of doing nothing, if it was measured."""

    lines: Sequence[Line]
    nothing: float | None


def interventional_lines(methods: Sequence[MethodResults]) -> Lines:
    """A line for each model of which trainings with several numbers of images were measured.

    A model's label is what its methods' titles begin with.
    """
    grouped: dict[str, dict[int, MethodResults]] = {}
    for method in methods:
        config = method.records[0]["provenance"].get("config") or {}
        count: Any = config
        for part in ("data", "init_args", "interventional"):
            count = count.get(part) if isinstance(count, dict) else None
        if is_whole(count) and count >= 0:
            key = json.dumps(config.get("model"), sort_keys=True)
            grouped.setdefault(key, {})[count] = method
    several = [dict(sorted(found.items())) for found in grouped.values() if len(found) > 1]
    if not several:
        return Lines([], None)
    numbers = long_table([method for found in several for method in found.values()])
    cells = statistics(numbers, _SHOWN, "method")
    lines = []
    for found in several:
        titles = [method.title for method in found.values()]
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*titles, strict=False))
        label = "".join(letters[0] for letters in alike).rstrip(" ,:;-0123456789")
        roots, leaves = (
            {n: cells[m.name, heading] for n, m in found.items() if (m.name, heading) in cells}
            for heading in (_ROOTS, _LEAVES)
        )
        lines.append(Line(label or titles[0], roots, leaves))
    first: Record = next(iter(several[0].values())).records[0]
    nothing = first["metrics"].get("do_nothing/acm/leaves")
    return Lines([line for line in lines if line.leaves], nothing)


def images_worth(one: Line, other: Line) -> tuple[int, float | None] | None:
    """How many images ``other`` needs for what ``one`` reached with the fewest that it saw.

    Returns:
        The number that ``one`` saw and the one that ``other`` needs, on a straight line over
        log(1 + images) between two trainings, or None in its place where ``other`` never gets so
        far. None where ``other`` is as good with the fewest, and nothing is gained.
    """
    fewest = min(one.leaves)
    reached = fmean(one.leaves[fewest].values)
    known = [(count, fmean(found.values)) for count, found in other.leaves.items()]
    if known[0][1] <= reached:
        return None
    for (low, before), (high, after) in pairwise(known):
        if after <= reached:
            part = (before - reached) / (before - after)
            return fewest, expm1(log1p(low) + part * (log1p(high) - log1p(low)))
    return fewest, None


def interventional_table(dataset: str, methods: Sequence[MethodResults]) -> ComparisonTable | None:
    """Roots and leaves of every line by number of images; None where there is no line."""
    lines, nothing = interventional_lines(methods)
    if not lines:
        return None
    counts = sorted({count for line in lines for count in line.leaves})
    rows = []
    for count in counts:
        found = (part.get(count) for line in lines for part in (line.roots, line.leaves))
        rows.append(Row(str(count), tuple(Cell(s.text()) if s else Cell() for s in found)))
    if nothing is not None:
        shown = Cell(), Cell(f"{nothing:.4f}")
        rows.append(Row("do nothing", shown * len(lines), reference=True))
    headings = (f"{line.label}: {part}" for line in lines for part in ("roots", "leaves"))
    caption = f"{dataset}: ACM by the number of interventional images"
    notes = tuple(
        _worth_text(one, other, worth)
        for one in lines
        for other in lines
        if one is not other and (worth := images_worth(one, other))
    )
    return ComparisonTable("interventional", caption, ("images", *headings), tuple(rows), notes)


def _worth_text(one: Line, other: Line, worth: tuple[int, float | None]) -> str:
    fewest, needed = worth
    most = max(other.leaves)
    number = f"more than {most}"
    if needed is not None:
        number = f"about {float(f'{needed:.2g}'):.0f}"
    return (
        f"What '{one.label}' reaches on leaves with {fewest} interventional images takes "
        f"'{other.label}' {number}."
    )
