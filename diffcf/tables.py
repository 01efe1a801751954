"""Results on disk → a markdown table: ``diffcf table experiments/results/pendulum/*.json``.

Every file is a ``metrics.json`` that ``diffcf test`` wrote, one per seed. No number of a table is
typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from jsonargparse import ArgumentParser

__all__ = ["ResultsError", "results_table", "table"]


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
    metrics = [record["metrics"] for record in records]
    names = [k.removeprefix("psnr/") for k in metrics[0] if k.startswith("psnr/")]
    factors = [n for n in names if n not in ("roots", "leaves", "reconstruction")]
    lines = [
        "| intervention | ACM | do nothing | PSNR to the exact counterfactual (dB) |",
        "|---|---|---|---|",
    ]
    for name in [*factors, "roots", "leaves"]:
        title = f"do({name})" if name in factors else f"**{name}**"
        cells = (
            _cell(metrics, f"acm/{name}", ".4f"),
            _cell(metrics, f"do_nothing/acm/{name}", ".4f"),
            _cell(metrics, f"psnr/{name}", ".1f"),
        )
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    reconstruction = _cell(metrics, "psnr/reconstruction", ".1f")
    lines.append(f"| nothing | {_cell(metrics, 'acm/null', '.4f')} | | {reconstruction} |")
    lines += ["", _footnote(records)]
    return "\n".join(lines) + "\n"


def _footnote(records: list[dict[str, Any]]) -> str:
    metrics = [record["metrics"] for record in records]
    origin = [record["provenance"] for record in records]
    minutes = [o["training"]["seconds"] / 60 for o in origin]
    guidance = origin[0]["sampling"]["guidance"]
    rule = guidance["rule"] if guidance else "no guidance"
    growth = ""
    if "acm/step_growth" in metrics[0]:
        ratio = _cell(metrics, "acm/step_growth", ".2f")
        growth = f"Sequence of interventions, ACM at the last step over the first: {ratio}. "
    return (
        f"{growth}{len(records)} seed(s), {records[0]['images']} held-out images each; "
        f"{rule}, {origin[0]['sampling']['steps']} steps; trained "
        f"{' and '.join(f'{m:.1f}' for m in minutes)} minutes on {origin[0]['training']['device']}."
    )


def _cell(metrics: list[dict[str, float]], key: str, spec: str) -> str:
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
