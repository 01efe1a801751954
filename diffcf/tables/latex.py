r"""Tables as LaTeX, for ``\input`` in a paper that loads the package booktabs."""

from __future__ import annotations

from diffcf.tables.content import Cell, Row, Table

__all__ = ["as_latex", "escape"]

_MARKS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "–": "--",
    "…": r"\dots{}",
    '"': "''",
}


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> escape("ours_no_guidance, t ≤ 30%")
    'ours\\_no\\_guidance, t $\\le$ 30\\%'
    """
    return "".join(_MARKS.get(mark, mark) for mark in text)


def as_latex(table: Table, label: str) -> str:
    """A floating table with caption and label; references stand below a rule, notes at the end."""
    headings = [*table.headings, *(["n"] if table.counts_seeds else [])]
    lines = [
        r"% Written by `diffcf tables`; needs \usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape(table.caption)}.}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
        r"\toprule",
        _line([escape(heading) for heading in headings]),
        r"\midrule",
        *(_row(row, table) for row in table.rows if not row.reference),
    ]
    if any(row.reference for row in table.rows):
        lines += [r"\midrule", *(_row(row, table) for row in table.rows if row.reference)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip {escape(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _row(row: Row, table: Table) -> str:
    title = escape(row.title)
    count = [str(row.seeds or "")] if table.counts_seeds else []
    name = rf"\emph{{{title}}}" if row.reference else title
    return _line([name, *map(_cell, row.cells), *count])


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
