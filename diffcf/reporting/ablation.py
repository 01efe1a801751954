"""Rows and headings from columns of a long table, and the table of an ablation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from diffcf.reporting.measures import (
    Cells,
    Column,
    Statistic,
    columns,
    long_table,
    select,
    statistics,
)
from diffcf.reporting.results import MethodResults
from diffcf.reporting.tables import markdown

_ABLATED = columns(
    "ACM roots", "ACM leaves", "PSNR roots", "PSNR leaves", "reconstruction", "ACM sequence",
    "PSNR sequence", "kept", "do and undo (dB)", "time / none",
)  # fmt: skip
Content = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headings and rows of a table."""
Text = Callable[[Statistic], str]


def table_content(
    corner: str,
    titles: Mapping[str, str],
    found: Cells,
    shown: Sequence[Column],
    text: Text = Statistic.text,
    missing: str = "",
) -> Content:
    """Headings, ``corner`` first, and a row for each title."""
    headings = [column.heading for column in shown]
    cells = {place: text(cell) for place, cell in found.items()}
    rows = [[t, *(cells.get((n, h), missing) for h in headings)] for n, t in titles.items()]
    return [corner, *headings], rows


def ablation_markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown of the metrics of each variant of ``diffcf ablate``; a dash for none."""
    variants = [MethodResults(name, name, ({"metrics": row},)) for name, row in rows.items()]
    table = long_table(variants)
    set_ones = select(table, "accuracy", reference=None)["intervention"].unique()
    read = [Column(f"{name} as set", "accuracy", name, ".3f", "higher") for name in set_ones]
    asked = [*_ABLATED[:-3], *read, *_ABLATED[-3:]]
    found = statistics(table, asked, "method")
    filled = {heading for _, heading in found}
    shown = [column for column in asked if column.heading in filled]
    return markdown(
        *table_content("variant", {name: name for name in rows}, found, shown, missing="–")
    )
