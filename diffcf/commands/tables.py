"""``diffcf tables``: every table and figure that compares methods, from the results on disk.

Reads ``<results>/<dataset>/<method>/<seed>.json``, which ``diffcf benchmark`` writes, and the
ablations beside them (:data:`diffcf.reporting.comparison.ABLATIONS`), and writes
``<out>/<dataset>/*.md``, ``*.tex`` and ``quality_cost.png``. No number in them is typed by hand;
``--check`` says whether that still holds. ``--readme`` names texts whose marked blocks, such as
``<!-- diffcf tables: pendulum main -->`` to ``<!-- end -->``, are filled as well:

- ``<dataset> <table>``: one of the tables of :mod:`diffcf.reporting.comparison`.
- ``<dataset> own``: our method's tables, of ``<dataset>/seed*.json`` (``diffcf table``).
- ``<folder> <name>``: ``<folder>/<name>.md`` as a command wrote it, ``diffcf ablate`` say.
- ``all own``: a row for each dataset with results of its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from diffcf import reporting  # its figures, and with them matplotlib, only where they are drawn
from diffcf.io import ResultsError, UnusableImage, open_image, write_text
from diffcf.reporting import (
    ABLATIONS,
    ComparisonTable,
    MethodResults,
    ablation_table,
    as_latex,
    as_markdown,
    comparison_tables,
    cost_points,
    find_results,
    nothing_score,
    results_table,
    summary_table,
)

_BEGIN = re.compile(r"^<!-- diffcf tables: (?P<dataset>\S+) (?P<table>\S+) -->\n", re.MULTILINE)
_END = "<!-- end -->"
Shown = tuple[dict[str, list[tuple[float, float]]], float | None]
"""The points of a figure of quality against cost, and the score of doing nothing."""
_FIGURE, _DATA = "quality_cost.png", "Description"


def tables(args: Sequence[str]) -> None:
    """Command ``diffcf tables``; ``--help`` lists the arguments.

    Raises:
        ResultsError: for results that are missing, not ours or not comparable, and for a text
            whose marked blocks cannot be filled.
        SystemExit: with status 1 when ``--check`` finds a file that differs.
    """
    parser = ArgumentParser(prog="diffcf tables", description="Tables from benchmark results.")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"))
    parser.add_argument("--out", type=Path, help="Folder to write; <results>/tables by default.")
    parser.add_argument(
        "--readme", type=Path, nargs="+", default=[], help="Texts whose marked tables are replaced."
    )
    parser.add_argument(
        "--check", action="store_true", help="Write nothing; exit with 1 where files differ."
    )
    parsed = parser.parse_args(list(args))
    out = parsed.out or parsed.results / "tables"
    datasets = find_results(parsed.results)
    content = all_tables(parsed.results, datasets)
    texts: dict[Path, str] = {}
    for (dataset, name), compared in content.items():
        texts[out / dataset / f"{name}.md"] = as_markdown(compared)
        texts[out / dataset / f"{name}.tex"] = as_latex(compared, f"tab:{dataset}-{name}")
    if parsed.readme:
        blocks = text_blocks(parsed.results, content)
        texts |= {path: refreshed(path, blocks) for path in parsed.readme}
    shown = {
        out / name / _FIGURE: (cost_points(methods), nothing_score(methods))
        for name, methods in datasets.items()
    }
    figures = {path: content for path, content in shown.items() if content[0]}
    if parsed.check:
        _check(texts, figures)
    else:
        _write(texts, figures)


def all_tables(
    results: Path, datasets: Mapping[str, Sequence[MethodResults]]
) -> dict[tuple[str, str], ComparisonTable]:
    """Every table by dataset and name."""
    found: dict[tuple[str, str], ComparisonTable] = {}
    for dataset, methods in datasets.items():
        listed = comparison_tables(dataset, methods)
        paths = (results / dataset / f"{name}.json" for name in ABLATIONS)
        listed += [ablation_table(dataset, path) for path in paths if path.exists()]
        found |= {(dataset, table.name): table for table in listed}
    return found


def text_blocks(
    results: Path, compared: Mapping[tuple[str, str], ComparisonTable]
) -> dict[tuple[str, str], str]:
    """Markdown of every block that a text can show, by dataset (or folder) and table.

    Args:
        results: the folder of results.
        compared: the tables that compare methods; they win over recorded ones of the same name.

    Raises:
        ResultsError: for a ``seed*.json`` that ``diffcf test`` did not write.
    """
    recorded = sorted(results.glob("*/*.md"))
    blocks = {(path.parent.name, path.stem): path.read_text(encoding="utf-8") for path in recorded}
    own: dict[str, list[Path]] = {}
    for path in sorted(results.glob("*/seed*.json")):
        own.setdefault(path.parent.name, []).append(path)
    blocks |= {(name, "own"): results_table(files) for name, files in own.items()}
    if own:
        blocks["all", "own"] = summary_table(own)
    return blocks | {key: as_markdown(table) for key, table in compared.items()}


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
        key = begin["dataset"], begin["table"]
        end = text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise ResultsError(
                f"The block '{' '.join(key)}' of {path} has no end: add a line {_END}."
            )
        if key not in tables:
            known = ", ".join(map(" ".join, tables))
            raise ResultsError(
                f"{path} asks for the table '{' '.join(key)}': the results give {known}."
            )
        parts += [text[rest : begin.end()], tables[key]]
        rest = end
    return "".join([*parts, text[rest:]])


def _write(texts: Mapping[Path, str], figures: Mapping[Path, Shown]) -> None:
    for path, text in texts.items():
        write_text(text, path)
    for path, (points, nothing) in figures.items():
        figure = reporting.quality_cost(points, nothing, path.parent.name)
        reporting.save_figure(figure, path, {_DATA: _described((points, nothing))})
    print("\n".join(str(path) for path in (*texts, *figures)))


def _check(texts: Mapping[Path, str], figures: Mapping[Path, Shown]) -> None:
    """SystemExit with 1 unless every file is what the results give."""
    differ = [p for p, text in texts.items() if not p.is_file() or text != p.read_text("utf-8")]
    differ += [path for path, shown in figures.items() if _description(path) != _described(shown)]
    if differ:
        listed = ", ".join(map(str, differ))
        print(f"diffcf: run `diffcf tables` again, results differ from {listed}.", file=sys.stderr)
        raise SystemExit(1)


def _described(shown: Shown) -> str:
    """What a figure shows, as text inside it: pixels depend on matplotlib's version as well."""
    return json.dumps({"points": shown[0], "do nothing": shown[1]})


def _description(path: Path) -> str | None:
    try:
        with open_image(path, ("PNG",)) as picture:
            return picture.info.get(_DATA)
    except UnusableImage:  # missing or broken: to be drawn again
        return None


def table(args: Sequence[str]) -> None:
    """Command ``diffcf table``."""
    parser = ArgumentParser(prog="diffcf table", description="Markdown from results files.")
    parser.add_argument("files", type=Path, nargs="+", help="metrics.json files, one per seed.")
    parsed = parser.parse_args(list(args))
    print(results_table(parsed.files), end="")
