"""What a marked block of a text can show: ``<!-- diffcf tables: pendulum main -->``.

- ``<dataset> <table>``: one of the tables that compare methods (:mod:`diffcf.reporting.comparison`).
- ``<dataset> own``: our method's tables, of ``<dataset>/seed*.json`` (``diffcf table``).
- ``<folder> <name>``: ``<folder>/<name>.md`` as a command wrote it, ``diffcf ablate`` say.
- ``all own``: a row for each dataset with results of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from diffcf.io import ResultsError
from diffcf.reporting.content import Cell, Row, Table, as_markdown
from diffcf.reporting.results import Record, read_record
from diffcf.reporting.single import markdown, results_table

_SUMMARY = {
    "ACM roots": ("acm/roots", ".4f"),
    "do nothing, roots": ("do_nothing/acm/roots", ".4f"),
    "ACM leaves": ("acm/leaves", ".4f"),
    "do nothing, leaves": ("do_nothing/acm/leaves", ".4f"),
    "PSNR roots": ("psnr/roots", ".1f"),
    "PSNR leaves": ("psnr/leaves", ".1f"),
}


def text_blocks(
    results: Path, compared: Mapping[tuple[str, str], Table]
) -> dict[tuple[str, str], str]:
    """Markdown by dataset (or folder) and table.

    Args:
        results: the folder of results.
        compared: the tables that compare methods; they win over recorded ones of the same name.

    Raises:
        ResultsError: for a ``seed*.json`` that ``diffcf test`` did not write.
    """
    blocks = {
        (path.parent.name, path.stem): path.read_text(encoding="utf-8")
        for path in sorted(results.glob("*/*.md"))
    }
    own = {
        folder.name: files
        for folder in sorted(results.iterdir())
        if (files := sorted(folder.glob("seed*.json")))
    }
    blocks |= {(name, "own"): results_table(files) for name, files in own.items()}
    if own:
        blocks["all", "own"] = _summary(own)
    return blocks | {key: as_markdown(table) for key, table in compared.items()}


def _summary(own: Mapping[str, Sequence[Path]]) -> str:
    rows = []
    for name, files in own.items():
        records = [read_record(file) for file in files]
        # Results from before protocols had a least change met easier questions.
        if all("min_change" in record.get("protocol", {}) for record in records):
            cells = [_summary_cell(records, key, spec) for key, spec in _SUMMARY.values()]
            rows.append([name.replace("_", " "), *cells, str(records[0]["images"])])
    return markdown(["dataset", *_SUMMARY, "images"], rows)


def _summary_cell(records: Sequence[Record], key: str, spec: str) -> str:
    values = [record["metrics"].get(key) for record in records]
    return "–" if None in values else format(mean(values), spec)


_BEGIN = re.compile(r"^<!-- diffcf tables: (?P<dataset>\S+) (?P<table>\S+) -->\n", re.MULTILINE)
_END = "<!-- end -->"


def refreshed(path: Path, tables: Mapping[tuple[str, str], str]) -> str:
    """The text of a file with its marked blocks replaced; without blocks, the text as it is.

    Args:
        path: of the text, a README say.
        tables: markdown by dataset and table.

    Raises:
        ResultsError: when the file is missing, a block has no end, or there is no such table.
    """
    if not path.is_file():
        raise ResultsError(f"{path} does not exist: name the text whose tables are to be replaced.")
    text = path.read_text(encoding="utf-8")
    parts, rest = [], 0
    for begin in _BEGIN.finditer(text):
        name = f"{begin['dataset']} {begin['table']}"
        end = text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise ResultsError(f"The block '{name}' of {path} has no end: add a line {_END}.")
        if (begin["dataset"], begin["table"]) not in tables:
            known = ", ".join(" ".join(key) for key in tables)
            raise ResultsError(f"{path} asks for the table '{name}': the results give {known}.")
        parts += [text[rest : begin.end()], tables[begin["dataset"], begin["table"]]]
        rest = end
    return "".join([*parts, text[rest:]])


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
