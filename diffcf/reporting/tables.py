"""A table that compares methods, as markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """``best`` says that no method is better by more than chance allows for."""

    text: str = ""
    best: bool = False


class Row(NamedTuple):
    """A method, or a reference, which stands there for comparison only."""

    title: str
    cells: tuple[Cell, ...]
    reference: bool = False


@dataclass(frozen=True)
class ComparisonTable:
    """Headings (the first is of the rows' titles), rows, and notes that go below.

    ``name`` is that of its file, ``caption`` a phrase that ends without a full stop.
    """

    name: str
    caption: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row).replace("|  |", "| |") + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_markdown(table: ComparisonTable) -> str:
    """The table with its notes below."""
    rows = []
    for title, cells, reference in table.rows:
        texts = (f"**{text}**" if best else text for text, best in cells)
        rows.append([f"*{title}*" if reference else title, *texts])
    return markdown(table.headings, rows) + "".join(f"\n{note}\n" for note in table.notes)


_ESCAPED = str.maketrans(
    {mark: f"\\{mark}" for mark in "{}&%$#_"}
    | {mark: f"${mark}$" for mark in "<>|"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$"}
    | {"λ": r"$\lambda$", "γ": r"$\gamma$", "↓": r"$\downarrow$", "↑": r"$\uparrow$"}
    | {"–": "--", "…": r"\dots{}", '"': "''"}
)


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> escape("ours_no_guidance, t ≤ 30%")
    'ours\\_no\\_guidance, t $\\le$ 30\\%'
    """
    return text.translate(_ESCAPED)


def as_latex(table: ComparisonTable, label: str) -> str:
    """A floating table with caption and label; references stand below a rule, notes at the end."""
    beside = [_latex_row(row) for row in table.rows if row.reference]
    lines = [
        r"% Written by `diffcf tables`; needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape(table.caption)}.}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
        r"\toprule",
        " & ".join(map(escape, table.headings)) + r" \\",
        r"\midrule",
        *(_latex_row(row) for row in table.rows if not row.reference),
        *([r"\midrule", *beside] if beside else []),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip {escape(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(row: Row) -> str:
    title = rf"\emph{{{escape(row.title)}}}" if row.reference else escape(row.title)
    cells = (rf"\textbf{{{escape(text)}}}" if best else escape(text) for text, best in row.cells)
    return " & ".join([title, *cells]) + r" \\"
