"""Results on disk → a markdown table: ``diffcf table experiments/results/pendulum/*.json``.

Every file is a ``metrics.json`` that ``diffcf test`` wrote, one per seed. No number of a table is
typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from diffcf.reporting.results import Record, display_name, read_record, sampling_text

PSNR = "PSNR to the exact counterfactual (dB)"
COLUMNS = {
    "ACM": ("acm/{}", ".4f"),
    "do nothing": ("do_nothing/acm/{}", ".4f"),
    "reads as set": ("accuracy/{}", ".3f"),
    PSNR: ("psnr/{}", ".1f"),
}


# Of a method as a whole: heading → key, format.
WHOLE = {
    "ACM roots": ("acm/roots", ".4f"),
    "ACM leaves": ("acm/leaves", ".4f"),
    "PSNR roots": ("psnr/roots", ".1f"),
    "PSNR leaves": ("psnr/leaves", ".1f"),
    "SSIM": ("ssim", ".4f"),
    "composition 1": ("composition/1", ".4f"),
    "composition 10": ("composition/10", ".4f"),
    "reversibility": ("reversibility", ".4f"),
    "minimality": ("minimality", ".5f"),
    "CLD": ("cld", ".3f"),
    "FID": ("fid", ".1f"),
    "sFID": ("sfid", ".1f"),
}
REFERENCES = ("exact", "do_nothing", "change_everything")


def results_table(files: Sequence[Path]) -> str:
    """Mean over seeds, with the range in brackets where there are several.

    Raises:
        ResultsError: for a file that is missing or was not written by ``diffcf test``.
    """
    records = [read_record(Path(file)) for file in files]
    metrics = [record["metrics"] for record in records]
    content = [table_rows(metrics), method_rows(metrics, display_name(records[0]))]
    tables = [markdown(*part) for part in content]
    return "\n".join([*tables, _footnote(records)]) + "\n"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row).replace("|  |", "| |") + " |" for row in rows]
    return "\n".join(lines) + "\n"


def intervened(metrics: Mapping[str, float]) -> list[str]:
    """The factors that were set, in order; empty where nothing was read."""
    names = [key.split("/")[1] for key in metrics if key.startswith("acm/") and key.count("/") == 2]
    return list(dict.fromkeys(names))


def table_rows(metrics: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one per intervened factor, then roots, leaves and the null intervention.

    Columns that none of the results fills (no ruler, no exact images) are left out.
    """
    first = metrics[0]
    factors = intervened(first)
    columns = {
        title: (key, spec)
        for title, (key, spec) in COLUMNS.items()
        if any(key.format(n) in first for n in (*factors, "reconstruction"))
    }
    rows = []
    for name in [*factors, *(n for n in ("roots", "leaves") if f"acm/{n}" in first)]:
        title = f"do({name})" if name in factors else f"**{name}**"
        cells = [_cell(metrics, key.format(name), spec) for key, spec in columns.values()]
        rows.append([title, *cells])
    null = {"ACM": "acm/null", PSNR: "psnr/reconstruction"}
    cells = [_cell(metrics, null.get(title, ""), spec) for title, (_, spec) in columns.items()]
    rows.append(["nothing", *cells])
    return ["intervention", *columns], rows


def method_rows(
    metrics: Sequence[Mapping[str, float]], method: str = "ours"
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: the method as a whole, and the reference methods beside it."""
    columns = {k: v for k, v in WHOLE.items() if v[0] in metrics[0]}
    rows = []
    for name in ["", *references(metrics[0])]:
        cells = [_cell(metrics, _under(name, key), spec) for key, spec in columns.values()]
        rows.append([f"*{name.replace('_', ' ')}*" if name else f"**{method}**", *cells])
    return ["method", *columns], rows


def references(metrics: Mapping[str, float]) -> list[str]:
    """The reference methods that were measured beside."""
    return [name for name in REFERENCES if any(key.startswith(f"{name}/") for key in metrics)]


def _under(name: str, key: str) -> str:
    return f"{name}/{key}" if name else key


def _footnote(records: Sequence[Record]) -> str:
    metrics = [record["metrics"] for record in records]
    growth = ""
    if "acm/step_growth" in metrics[0]:
        ratio = _cell(metrics, "acm/step_growth", ".2f")
        growth = f"Sequence of interventions, ACM at the last step over the first: {ratio}. "
    elif "acm/step_1" in metrics[0]:
        last = _cell(metrics, f"acm/step_{records[0]['protocol']['steps']}", ".4f")
        growth = f"Sequence of interventions, ACM at the last step: {last}. "
    if "rate_error" in metrics[0]:
        error = _cell(metrics, "rate_error", ".3f")
        growth += f"Effects follow their cause at the true rate to within {error}. "
    parts = [
        f"{len(records)} seed(s), {records[0]['images']} held-out images each",
        sampling_text(records[0]),
        _training([record["provenance"]["training"] for record in records]),
    ]
    return f"{growth}{'; '.join(part for part in parts if part)}."


def _training(trainings: Sequence[Mapping[str, Any]]) -> str:
    minutes = [f"{t['seconds'] / 60:.1f}" for t in trainings if t]
    if len(minutes) < len(trainings):
        return "untrained"
    return f"trained {' and '.join(minutes)} minutes on {trainings[0]['device']}"


def _cell(metrics: Sequence[Mapping[str, float]], key: str, spec: str) -> str:
    """Mean and range; empty where the key was not measured."""
    if any(key not in m for m in metrics):
        return ""
    values = [m[key] for m in metrics]
    cell = format(mean(values), spec)
    if len(values) > 1:
        cell += f" [{min(values):{spec}}, {max(values):{spec}}]"
    return cell


def print_table(metrics: Mapping[str, float]) -> None:
    """The table of one test: a row per intervened factor, roots, leaves, the null intervention."""
    headings, rows = table_rows([metrics])
    judged = "read by the ruler against the true model" if "acm" in metrics else "no ruler: unread"
    table = Table(title=f"Counterfactuals, {judged}")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "intervention" else "right")
    for row in rows:
        table.add_row(*(cell.strip("*") for cell in row))
    Console().print(table)
    steps = [v for k, v in metrics.items() if k.startswith("acm/step_") and k[-1].isdigit()]
    if steps:
        listed = " ".join(f"{value:.4f}" for value in steps)
        growth = metrics.get("acm/step_growth")
        over = "" if growth is None else f" (last over first {growth:.2f})"
        print(f"Sequence of interventions, ACM per step: {listed}{over}")
    for key in (k for k in metrics if k.startswith("rate/")):
        effect = key.removeprefix("rate/")
        true = metrics[f"true_{key}"]
        print(f"do({effect.replace('/', '): ')} in {metrics[key]:.3f} of images, truly {true:.3f}")
