"""Results on disk → a markdown table: ``diffcf table experiments/results/pendulum/*.json``.

Every file is a ``metrics.json`` that ``diffcf test`` wrote, one per seed. No number of a table is
typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from jsonargparse import ArgumentParser

__all__ = ["ResultsError", "results_table", "table", "table_rows"]

PSNR = "PSNR to the exact counterfactual (dB)"
COLUMNS = {
    "ACM": ("acm/{}", ".4f"),
    "do nothing": ("do_nothing/acm/{}", ".4f"),
    "reads as set": ("accuracy/{}", ".3f"),
    PSNR: ("psnr/{}", ".1f"),
}


class ResultsError(ValueError):
    """A results file is missing or not one of ours."""


def table(args: Sequence[str]) -> None:
    """Command ``diffcf table``."""
    parser = ArgumentParser(prog="diffcf table", description="Markdown from results files.")
    parser.add_argument("files", type=Path, nargs="+", help="metrics.json files, one per seed.")
    parsed = parser.parse_args(list(args))
    print(results_table(parsed.files), end="")


def results_table(files: Sequence[Path]) -> str:
    """Mean over seeds, with the range in brackets where there are several.

    Raises:
        ResultsError: for a file that is missing or was not written by ``diffcf test``.
    """
    records = [_read(Path(file)) for file in files]
    headings, rows = table_rows([record["metrics"] for record in records])
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row).replace("|  |", "| |") + " |" for row in rows]
    return "\n".join([*lines, "", _footnote(records)]) + "\n"


def table_rows(metrics: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one per intervened factor, then roots, leaves and the null intervention.

    Columns that none of the results fills (no ruler, no exact images) are left out.
    """
    first = metrics[0]
    prefix = "do_nothing/acm/"
    scored = [key.removeprefix(prefix) for key in first if key.startswith(prefix)]
    factors = [n for n in scored if "/" not in n and not n.startswith("step_")]
    factors = [n for n in factors if n not in ("roots", "leaves")]
    columns = {
        title: (key, spec)
        for title, (key, spec) in COLUMNS.items()
        if any(key.format(n) in first for n in (*factors, "reconstruction"))
    }
    rows = []
    for name in [*factors, *(n for n in ("roots", "leaves") if n in scored)]:
        title = f"do({name})" if name in factors else f"**{name}**"
        cells = [_cell(metrics, key.format(name), spec) for key, spec in columns.values()]
        rows.append([title, *cells])
    null = {"ACM": "acm/null", PSNR: "psnr/reconstruction"}
    cells = [_cell(metrics, null.get(title, ""), spec) for title, (_, spec) in columns.items()]
    rows.append(["nothing", *cells])
    return ["intervention", *columns], rows


def _footnote(records: Sequence[dict[str, Any]]) -> str:
    metrics = [record["metrics"] for record in records]
    origin = [record["provenance"] for record in records]
    minutes = [o["training"]["seconds"] / 60 for o in origin]
    guidance = origin[0]["sampling"]["guidance"]
    rule = guidance["rule"] if guidance else "no guidance"
    growth = ""
    if "acm/step_growth" in metrics[0]:
        ratio = _cell(metrics, "acm/step_growth", ".2f")
        growth = f"Sequence of interventions, ACM at the last step over the first: {ratio}. "
    if "rate_error" in metrics[0]:
        error = _cell(metrics, "rate_error", ".3f")
        growth += f"Effects follow their cause at the true rate to within {error}. "
    return (
        f"{growth}{len(records)} seed(s), {records[0]['images']} held-out images each; "
        f"{rule}, {origin[0]['sampling']['steps']} steps; trained "
        f"{' and '.join(f'{m:.1f}' for m in minutes)} minutes on {origin[0]['training']['device']}."
    )


def _cell(metrics: Sequence[Mapping[str, float]], key: str, spec: str) -> str:
    """Mean and range; empty where the key was not measured."""
    if any(key not in m for m in metrics):
        return ""
    values = [m[key] for m in metrics]
    cell = format(mean(values), spec)
    if len(values) > 1:
        cell += f" [{min(values):{spec}}, {max(values):{spec}}]"
    return cell


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ResultsError(f"Results file {path} does not exist: run `diffcf test` first.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"Results file {path} is not JSON: {error}.") from None
    if not isinstance(record, dict) or not {"metrics", "images", "provenance"} <= set(record):
        raise ResultsError(f"{path} was not written by `diffcf test`: it lacks metrics.")
    return record
