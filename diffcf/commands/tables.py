"""``diffcf tables``: every table and figure that compares methods, from the results on disk.

Reads ``<results>/<dataset>/<method>/<seed>.json``, which ``diffcf benchmark`` writes, and the
ablations beside them (:data:`diffcf.reporting.comparison.ABLATIONS`), and writes
``<out>/<dataset>/*.md``, ``*.tex``, ``quality_cost.png`` and, where trainings differ in how many
interventional images they saw, ``interventional.png``. No number in them is typed by hand;
``--check`` says whether that still holds. ``--readme`` names texts whose marked blocks, such as
``<!-- diffcf tables: pendulum main -->`` to ``<!-- end -->``, are filled as well:

- ``<dataset> <table>``: one of the tables of :mod:`diffcf.reporting.comparison`.
- ``<dataset> own``: our method's tables (``diffcf table``), of ``<dataset>/seed*.json``, or, where
  there are none, of the benchmark's ``<dataset>/ours/*.json``.
- ``<folder> <name>``: ``<folder>/<name>.md`` as a command wrote it, ``diffcf ablate`` say.
- ``all own``: a row for each dataset with results of its own.
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser  # jsonargparse takes as long to import as all tables to make
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diffcf import reporting  # its figures, and with them matplotlib, only where they are drawn
from diffcf.io import ResultsError, UnusableImage, open_image, write_text
from diffcf.reporting import ComparisonTable, MethodResults, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BEGIN = re.compile(r"^<!-- diffcf tables: (?P<dataset>\S+) (?P<table>\S+) -->\n", re.MULTILINE)
_END = "<!-- end -->"
Name = tuple[str, str]
"""Dataset (or folder) and table."""
Block = Callable[[], str]
"""Makes the markdown of a table."""


class Plot(NamedTuple):
    """What a figure shows, as text, and what draws it: pixels depend on matplotlib's version."""

    described: str
    draw: Callable[[], Figure]


_DATA = "Description"


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
    marked = "Texts whose marked tables are replaced."
    parser.add_argument("--readme", type=Path, nargs="+", default=[], help=marked)
    check = "Write nothing; exit with 1 where files differ."
    parser.add_argument("--check", action="store_true", help=check)
    parsed = parser.parse_args(list(args))
    out = parsed.out or parsed.results / "tables"
    datasets = reporting.find_results(parsed.results)
    content = all_tables(parsed.results, datasets)
    texts: dict[Path, str] = {}
    for (dataset, name), table in content.items():
        texts[out / dataset / f"{name}.md"] = reporting.as_markdown(table)
        texts[out / dataset / f"{name}.tex"] = reporting.as_latex(table, f"tab:{dataset}-{name}")
    if parsed.readme:
        blocks = text_blocks(parsed.results, content)
        texts |= {path: refreshed(path, blocks) for path in parsed.readme}
    figures = {
        out / dataset / f"{name}.png": plot
        for dataset, methods in datasets.items()
        for name, plot in all_plots(dataset, methods).items()
    }
    if parsed.check:
        _check(texts, figures)
    else:
        _write(texts, figures)


def all_tables(
    results: Path, datasets: Mapping[str, Sequence[MethodResults]]
) -> dict[Name, ComparisonTable]:
    """Every table that compares methods, or ways to sample."""
    found: dict[Name, ComparisonTable] = {}
    for dataset, methods in datasets.items():
        listed = reporting.comparison_tables(dataset, methods)
        further = reporting.directions_table, reporting.interventional_table
        listed += filter(None, (table_of(dataset, methods) for table_of in further))
        paths = (results / dataset / f"{name}.json" for name in reporting.ABLATIONS)
        listed += [reporting.ablation_table(dataset, path) for path in paths if path.exists()]
        found |= {(dataset, table.name): table for table in listed}
    return found


def all_plots(dataset: str, methods: Sequence[MethodResults]) -> dict[str, Plot]:
    """Every figure that compares methods, by name."""
    plots: dict[str, Plot] = {}
    if (points := reporting.cost_points(methods)).methods:
        text = json.dumps({"points": points.methods, "do nothing": points.nothing})
        draw = partial(reporting.quality_cost, points.methods, points.nothing, dataset)
        plots["quality_cost"] = Plot(text, draw)
    if (shown := reporting.interventional_lines(methods)).lines:
        leaves = {line.label: {n: s[1:4] for n, s in line.leaves.items()} for line in shown.lines}
        text = json.dumps({"leaves": leaves, "do nothing": shown.nothing})
        draw = partial(reporting.interventional_figure, shown, dataset)
        plots["interventional"] = Plot(text, draw)
    return plots


def text_blocks(results: Path, compared: Mapping[Name, ComparisonTable]) -> dict[Name, Block]:
    """Every block that a text can show; each is made when it is called.

    ``compared`` are the tables that compare methods: they win over recorded ones of the same name.
    ResultsError for a record of our own that ``diffcf test`` did not write.
    """
    blocks: dict[Name, Block] = {
        (path.parent.name, path.stem): partial(path.read_text, encoding="utf-8")
        for path in sorted(results.glob("*/*.md"))
    }
    own: dict[str, list[Record]] = {}
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        benchmark = reporting.of_seeds(folder.glob("ours/*.json"))
        if paths := sorted(folder.glob("seed*.json")) or benchmark:
            own[folder.name] = [reporting.read_record(path) for path in paths]
    blocks |= {(name, "own"): partial(reporting.seeds_table, own[name]) for name in own}
    if own:
        blocks["all", "own"] = partial(reporting.summary_table, own)
    return blocks | {key: partial(reporting.as_markdown, t) for key, t in compared.items()}


def refreshed(path: Path, blocks: Mapping[Name, Block]) -> str:
    """The text of a file with its marked blocks, if any, replaced.

    ResultsError when the file is missing, a block has no end, or there is no such table.
    """
    if not path.is_file():
        raise ResultsError(f"{path} does not exist: name the text whose tables are to be replaced.")
    text = path.read_text(encoding="utf-8")
    parts, rest = [], 0
    for begin in _BEGIN.finditer(text):
        key = begin["dataset"], begin["table"]
        name = " ".join(key)
        end = text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise ResultsError(f"The block '{name}' of {path} has no end: add a line {_END}.")
        if key not in blocks:
            known = ", ".join(map(" ".join, blocks))
            raise ResultsError(f"{path} asks for the table '{name}': the results give {known}.")
        parts += [text[rest : begin.end()], blocks[key]()]
        rest = end
    return "".join([*parts, text[rest:]])


def _write(texts: Mapping[Path, str], figures: Mapping[Path, Plot]) -> None:
    for path, text in texts.items():
        write_text(text, path)
    for path, plot in figures.items():
        reporting.save_figure(plot.draw(), path, {_DATA: plot.described})
    print("\n".join(str(path) for path in (*texts, *figures)))


def _check(texts: Mapping[Path, str], figures: Mapping[Path, Plot]) -> None:
    """SystemExit with 1 unless every file is what the results give."""
    differ = [p for p, text in texts.items() if not p.is_file() or text != p.read_text("utf-8")]
    differ += [path for path, plot in figures.items() if _description(path) != plot.described]
    if differ:
        listed = ", ".join(map(str, differ))
        print(f"diffcf: run `diffcf tables` again, results differ from {listed}.", file=sys.stderr)
        raise SystemExit(1)


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
    print(reporting.results_table(parser.parse_args(list(args)).files), end="")
