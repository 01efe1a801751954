"""``diffcf tables``: every table and figure that compares methods, from the results on disk.

Reads ``<results>/<dataset>/<method>/<seed>.json``, which ``diffcf benchmark`` writes, and the
ablations beside them (:data:`diffcf.reporting.comparison.ABLATIONS`), and writes
``<out>/<dataset>/*.md``, ``*.tex`` and ``quality_cost.png``. No number in them is typed by hand;
``--check`` says whether that still holds. ``--readme`` names texts whose marked blocks
(:mod:`diffcf.reporting.markup`) are filled as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from diffcf.io import UnusableImage, opened, write_text
from diffcf.reporting import (
    ABLATIONS,
    Method,
    Table,
    ablation_table,
    as_latex,
    as_markdown,
    comparison_tables,
    cost_points,
    find_results,
    nothing_score,
    quality_cost,
    refreshed,
    results_table,
    save_figure,
    text_blocks,
)

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
    texts = _texts(content, out)
    if parsed.readme:
        blocks = text_blocks(parsed.results, content)
        texts |= {path: refreshed(path, blocks) for path in parsed.readme}
    figures = {out / name / _FIGURE: methods for name, methods in datasets.items()}
    figures = {path: methods for path, methods in figures.items() if cost_points(methods)}
    if parsed.check:
        _check(texts, figures)
    else:
        _write(texts, figures)


def all_tables(
    results: Path, datasets: Mapping[str, Sequence[Method]]
) -> dict[tuple[str, str], Table]:
    """Every table by dataset and name."""
    found: dict[tuple[str, str], Table] = {}
    for dataset, methods in datasets.items():
        listed = comparison_tables(dataset, methods)
        paths = (results / dataset / f"{name}.json" for name in ABLATIONS)
        listed += [ablation_table(dataset, path) for path in paths if path.exists()]
        found |= {(dataset, table.name): table for table in listed}
    return found


def _texts(content: Mapping[tuple[str, str], Table], out: Path) -> dict[Path, str]:
    texts: dict[Path, str] = {}
    for (dataset, name), table in content.items():
        texts[out / dataset / f"{name}.md"] = as_markdown(table)
        texts[out / dataset / f"{name}.tex"] = as_latex(table, f"tab:{dataset}-{name}")
    return texts


def _write(texts: Mapping[Path, str], figures: Mapping[Path, Sequence[Method]]) -> None:
    for path, text in texts.items():
        write_text(text, path)
    for path, methods in figures.items():
        figure = quality_cost(cost_points(methods), nothing_score(methods), path.parent.name)
        save_figure(figure, path, {_DATA: _drawn(methods)})
    print("\n".join(str(path) for path in (*texts, *figures)))


def _check(texts: Mapping[Path, str], figures: Mapping[Path, Sequence[Method]]) -> None:
    """SystemExit with 1 unless every file is what the results give."""
    differ = [p for p, text in texts.items() if not p.is_file() or text != p.read_text("utf-8")]
    differ += [path for path, methods in figures.items() if _description(path) != _drawn(methods)]
    if differ:
        listed = ", ".join(map(str, differ))
        print(f"diffcf: run `diffcf tables` again, results differ from {listed}.", file=sys.stderr)
        raise SystemExit(1)


def _drawn(methods: Sequence[Method]) -> str:
    """What a figure shows, as text inside it: pixels depend on matplotlib's version as well."""
    return json.dumps({"points": cost_points(methods), "do nothing": nothing_score(methods)})


def _description(path: Path) -> str | None:
    try:
        with opened(path, ("PNG",)) as picture:
            return picture.info.get(_DATA)
    except UnusableImage:  # missing or broken: to be drawn again
        return None


def table(args: Sequence[str]) -> None:
    """Command ``diffcf table``."""
    parser = ArgumentParser(prog="diffcf table", description="Markdown from results files.")
    parser.add_argument("files", type=Path, nargs="+", help="metrics.json files, one per seed.")
    parsed = parser.parse_args(list(args))
    print(results_table(parsed.files), end="")
