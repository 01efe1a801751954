"""Four directions of quality in one table, with each method's rank in every one of them.

The directions are those of a review of the field (arXiv 2603.17405): reconstruction,
disentanglement, discovery of the graph, counterfactuals. Methods are ranked by each measure, and
the ranks averaged within a direction, then over directions; no score is made of the measures
themselves, which have no common unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from diffcf.reporting.comparison import compared
from diffcf.reporting.measures import Cells, Column, columns, long_table, statistics
from diffcf.reporting.results import MethodResults
from diffcf.reporting.tables import Cell, ComparisonTable

DIRECTIONS: Mapping[str, Sequence[Column]] = {
    "reconstruction": columns("composition", "reversibility"),
    "disentanglement": columns("DCI D", "IRS"),
    "discovery": columns("SHD"),
    "counterfactuals": columns("ACM roots", "ACM leaves", "PSNR exact"),
}
_MEAN = "mean"
_NOTE = (
    "Ranks are means over a direction's measures, equal values share one; a method without a "
    "measure that others have is the last of it. A direction that no method was measured in is "
    "left out."
)


def directions_table(dataset: str, methods: Sequence[MethodResults]) -> ComparisonTable | None:
    """Measures and ranks of methods, variants of ours left out; None of fewer than two methods.

    >>> directions_table("pendulum", []) is None
    True
    """
    rivals = [method for method in methods if not method.name.startswith("ours_")]
    if len(rivals) < 2:
        return None
    numbers = long_table(rivals)
    shown = [column for measures in DIRECTIONS.values() for column in measures]
    names = [method.name for method in rivals]
    ranks = _ranks(names, statistics(numbers, shown, "method"))
    caption = f"{dataset}: four directions, and the rank in each"
    table = compared("directions", caption, shown, numbers, rivals, notes=[_NOTE])
    rows = []
    for name, row in zip(names, table.rows, strict=True):
        places = [
            Cell(f"{ranks.at[name, key]:.1f}", bool(ranks.at[name, key] == ranks[key].min()))
            for key in ranks
        ]
        rows.append(row._replace(cells=(*row.cells[:-1], *places, row.cells[-1])))
    headings = (*table.headings[:-1], *map(_heading, ranks), table.headings[-1])
    return replace(table, headings=headings, rows=tuple(rows))


def _heading(direction: str) -> str:
    return "mean rank" if direction == _MEAN else f"rank, {direction}"


def _ranks(methods: Sequence[str], found: Cells) -> pd.DataFrame:
    """Ranks from 1, a row for each method and a column for each direction, and their mean."""
    ranks: dict[str, pd.Series] = {}
    for name, measures in DIRECTIONS.items():
        each = []
        for column in measures:
            # As they are shown, so that what differs behind the last digit is a tie.
            values = pd.Series(
                {m: float(found[m, column.heading].text()) for m in methods
                 if (m, column.heading) in found},
                index=methods,
                dtype=float,
            )  # fmt: skip
            if values.notna().any():
                rising = column.better == "lower"
                each.append(values.rank(ascending=rising, na_option="bottom"))
        if each:
            ranks[name] = pd.concat(each, axis=1).mean(axis=1)
    table = pd.DataFrame(ranks)
    return table.assign(**{_MEAN: table.mean(axis=1)})
