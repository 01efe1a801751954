"""A table that compares methods: what stands in its cells, before any markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Literal

from diffcf.reporting.results import Method, Record
from diffcf.reporting.single import markdown

_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}


@dataclass(frozen=True)
class Column:
    """A measure of a method.

    Attributes:
        title: its heading, without the arrow that says which way is good.
        read: its value in one record; None where it was not measured.
        spec: format of its numbers.
        better: which way is good; None where neither is, and nothing is set in bold.
    """

    title: str
    read: Callable[[Record], float | None]
    spec: str = ".4f"
    better: Literal["lower", "higher"] | None = None

    @property
    def heading(self) -> str:
        return self.title + _ARROWS[self.better]

    def cell(self, records: Sequence[Record]) -> Cell:
        """What the seeds of one method say."""
        values = tuple(value for record in records if (value := self.read(record)) is not None)
        return Cell(values, self.spec, len(values) < len(records))


@dataclass(frozen=True)
class Cell:
    """The values of all seeds.

    Attributes:
        values: by seed.
        spec: format.
        partial: whether some seeds of the row have none.
        best: whether no method shows a better mean.
    """

    values: tuple[float, ...]
    spec: str
    partial: bool = False
    best: bool = False

    @property
    def mean(self) -> str:
        """The mean as it is shown; empty without values."""
        return format(mean(self.values), self.spec) if self.values else ""

    @property
    def text(self) -> str:
        """Mean, standard deviation over seeds, and how many seeds where they are not the row's."""
        several = len(self.values) > 1
        spread = f" ± {format(stdev(self.values), self.spec)}" if several else ""
        count = f" (n = {len(self.values)})" if self.partial and self.values else ""
        return f"{self.mean}{spread}{count}"


@dataclass(frozen=True)
class Row:
    """A method, or a reference.

    Attributes:
        title: its name.
        cells: one for each column.
        seeds: how many; None for what has none.
        reference: whether it stands there for comparison only.
    """

    title: str
    cells: tuple[Cell, ...]
    seeds: int | None = None
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """Headings (the first is of the rows' names), rows, and notes that go below.

    ``name`` is that of its file, ``caption`` a phrase that ends without a full stop.
    """

    name: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts_seeds(self) -> bool:
        return any(row.seeds is not None for row in self.rows)


def metric(key: str) -> Callable[[Record], float | None]:
    """Reads one of a record's metrics."""

    def read(record: Record) -> float | None:
        return record["metrics"].get(key)

    return read


def compared(
    name: str,
    caption: str,
    columns: Sequence[Column],
    methods: Sequence[Method],
    references: Sequence[Method] = (),
    notes: Sequence[str] = (),
) -> Table:
    """A row for each method and reference; columns that no method fills are left out."""
    shown = [c for c in columns if any(c.cell(method.records).values for method in methods)]
    cells = [_ranked(c, [c.cell(method.records) for method in methods]) for c in shown]
    rows = [
        Row(method.title, tuple(column[place] for column in cells), len(method.records))
        for place, method in enumerate(methods)
    ]
    rows += [
        Row(known.title, tuple(c.cell(known.records) for c in shown), reference=True)
        for known in references
    ]
    return Table(name, caption, ("method", *(c.heading for c in shown)), tuple(rows), tuple(notes))


def _ranked(column: Column, cells: list[Cell]) -> list[Cell]:
    """The cells with the best marked, all that show the same; one alone is not best of anything."""
    means = [cell.mean for cell in cells if cell.values]
    if column.better is None or len(means) < 2:
        return cells
    # As shown: what differs behind the last digit is a tie.
    best = (min if column.better == "lower" else max)(means, key=float)
    return [replace(cell, best=bool(cell.values) and cell.mean == best) for cell in cells]


def as_markdown(table: Table) -> str:
    """The table with its notes below."""
    headings = [*table.headings, *(["n"] if table.counts_seeds else [])]
    rows = []
    for row in table.rows:
        cells = [f"**{cell.text}**" if cell.best else cell.text for cell in row.cells]
        count = [str(row.seeds or "")] if table.counts_seeds else []
        rows.append([f"*{row.title}*" if row.reference else row.title, *cells, *count])
    return markdown(headings, rows) + "".join(f"\n{note}\n" for note in table.notes)
