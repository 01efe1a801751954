"""What a marked block of a text can show: ``<!-- diffcf tables: pendulum main -->``.

- ``<dataset> <table>``: one of the tables that compare methods (:mod:`diffcf.tables.comparison`).
- ``<dataset> own``: our method's tables, of ``<dataset>/seed*.json`` (``diffcf table``).
- ``<folder> <name>``: ``<folder>/<name>.md`` as a command wrote it, ``diffcf ablate`` say.
- ``all own``: a row for each dataset with results of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from diffcf.tables.content import Table, as_markdown
from diffcf.tables.results import Record, read_record
from diffcf.tables.single import markdown, results_table

__all__ = ["text_blocks"]

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
            cells = [_cell(records, key, spec) for key, spec in _SUMMARY.values()]
            rows.append([name.replace("_", " "), *cells, str(records[0]["images"])])
    return markdown(["dataset", *_SUMMARY, "images"], rows)


def _cell(records: Sequence[Record], key: str, spec: str) -> str:
    values = [record["metrics"].get(key) for record in records]
    return "–" if None in values else format(mean(values), spec)
