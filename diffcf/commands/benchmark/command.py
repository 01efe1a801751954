"""``diffcf benchmark experiments/benchmarks/pendulum.yaml``: every method, every seed, one table.

Runs the cells of a grid that are not done yet, one after another, and goes on after a failed one.
Several runners share a grid without a scheduler: each takes the cells that no other is working on
(``--threads 1`` lets two runners fill two cores). On a cluster, ``--list`` names the cells and
``--only method/seed`` runs one of them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from jsonargparse import ArgumentParser

from diffcf.commands.benchmark.grid import (
    Cell,
    Grid,
    Method,
    callback_arguments,
    changed,
    training_part,
)
from diffcf.commands.benchmark.runner import Run, RunError, claimed, metrics_file, run_cell
from diffcf.io import SettingsError, write_json


def benchmark(args: Sequence[str]) -> None:
    """Command ``diffcf benchmark``; ``--help`` lists the arguments.

    Raises:
        SettingsError: before anything runs, when a description is broken or names are unknown.
        SystemExit: with status 1 when a cell failed, 130 after Ctrl-C.
    """
    parsed = _parser().parse_args(list(args))
    if parsed.threads < 1:
        raise SettingsError(f"--threads must be at least 1, not {parsed.threads}.")
    grids = [Grid.load(path) for path in parsed.grids]
    cells = _chosen([c for grid in grids for c in grid.cells(parsed.runs)], parsed.only)
    if parsed.list:
        print("\n".join(f"{cell}\t{cell.state}" for cell in cells))
        return
    try:
        failed = _search(grids, cells, parsed) if parsed.search else _run(cells, parsed.threads)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", flush=True)
        raise SystemExit(130) from None
    if failed:
        print(f"diffcf: failed: {', '.join(failed)}.", file=sys.stderr)
        raise SystemExit(1)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf benchmark", description="Run a grid of methods × seeds.")
    parser.add_argument(
        "grids", type=Path, nargs="+", help="YAML files, see diffcf.commands.benchmark.grid"
    )
    parser.add_argument(
        "--only", action="append", type=str, help="METHOD/SEED, or METHOD; may be repeated."
    )
    parser.add_argument("--list", action="store_true", help="Print the cells and their state.")
    parser.add_argument(
        "--search", action="store_true", help="Search hyper-parameters instead, on validation."
    )
    parser.add_argument("--search_minutes", type=float, default=5.0, help="Budget of a training.")
    parser.add_argument("--search_images", type=int, default=64, help="Images of a trial.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of each cell.")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="Working folder.")
    return parser


def _chosen(cells: Sequence[Cell], only: Sequence[str] | None) -> list[Cell]:
    """The cells that ``--only`` names, or all."""
    if not only:
        return list(cells)
    for name in only:
        if not any(name in (cell.name, cell.method.name) for cell in cells):
            names = ", ".join(dict.fromkeys(cell.name for cell in cells))
            raise SettingsError(f"There is no cell {name}; there are {names}.")
    return [cell for cell in cells if {cell.name, cell.method.name} & set(only)]


def _run(cells: Sequence[Cell], threads: int) -> list[str]:
    """Run the cells; the names of those that failed."""
    failed = []
    for number, cell in enumerate(cells, start=1):
        title = f"[{number}/{len(cells)}] {cell}"
        try:
            run_cell(cell, threads, title)
        except RunError as error:
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            failed.append(str(cell))
    return failed


def _search(grids: Sequence[Grid], cells: Sequence[Cell], parsed: Any) -> list[str]:
    """Search for the methods of the cells; the names of those that failed."""
    plan = SearchPlan(parsed.search_minutes, parsed.search_images, parsed.threads)
    seeds: dict[tuple[str, str], int] = {}  # of each method, the first that was chosen
    for cell in cells:
        seeds.setdefault((cell.dataset, cell.method.name), cell.seed)
    wanted: list[tuple[Grid, Method]] = [
        (grid, method)
        for grid in grids
        for method in grid.methods.values()
        if method.search and (grid.dataset, method.name) in seeds
    ]
    if not wanted:
        raise SettingsError("None of these methods lists settings to try: give one a search.")
    failed = []
    for number, (grid, method) in enumerate(wanted, start=1):
        title = f"[{number}/{len(wanted)}] {grid.dataset} {method.name}"
        try:
            seed = seeds[grid.dataset, method.name]
            search(grid, method, seed, parsed.runs, plan, title)
        except RunError as error:
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            failed.append(f"{grid.dataset} {method.name}")
    return failed


_SCORED = ("acm/roots", "acm/leaves")


@dataclass(frozen=True)
class SearchPlan:
    """How settings are tried.

    Attributes:
        minutes: budget of each small training, by the clock of the benchmark's.
        images: of the validation split.
        threads: of each process.
    """

    minutes: float = 5.0
    images: int = 64
    threads: int = 1


def search(grid: Grid, method: Method, seed: int, runs: Path, plan: SearchPlan, title: str) -> None:
    """Try every setting of a method's ``search`` and write ``search.json`` beside its results.

    Raises:
        RunError: when a stage fails, or the dataset has no ruler to score by.
    """
    shipped = grid.settings(method, seed)
    trials = [grid.settings(method, seed, change) for change in method.search]
    whole = all(training_part(trial) == training_part(shipped) for trial in trials)
    if not whole:
        for settings in (shipped, *trials):
            callback_arguments(settings, "TrainingBudget")["minutes"] = plan.minutes
    folder = runs / grid.dataset / method.name / (str(seed) if whole else "search")
    results = grid.results / grid.dataset / method.name / "search.json"
    with claimed(folder) as lock:
        if lock is None:
            print(f"{title}: another runner is at it, skipped ({folder}/.lock)", flush=True)
            return
        tried = []
        for number, (change, trial) in enumerate(zip(method.search, trials, strict=True), start=1):
            run_folder = folder if whole else folder / _digest(training_part(trial))
            run_folder.mkdir(exist_ok=True)
            name = f"{title} {number}/{len(trials)} {json.dumps(change)}"
            run = Run(run_folder, shipped if whole else trial, lock, plan.threads, name)
            tried.append({"set": change, **_tried(run, trial, plan.images)})
    best = min(tried, key=lambda variant: variant["score"])
    record = {
        "benchmark": {
            "dataset": grid.dataset,
            "method": method.name,
            "seed": seed,
            "class_path": method.class_path,
        },
        "minutes": callback_arguments(shipped, "TrainingBudget")["minutes"],
        "split": "val",
        "scored": f"mean of {' and '.join(_SCORED)}, least is best",
        "variants": tried,
        "choice": best["set"],
        "settings": shipped,
    }
    write_json(record, results)
    print(f"{title}: best is {json.dumps(best['set'])}, {best['score']:.4f} ({results})")


def _tried(run: Run, settings: dict[str, Any], images: int) -> dict[str, Any]:
    """Score of settings that the run is trained for, measured now or before."""
    asked = callback_arguments(settings, "CounterfactualCallback")
    asked["val_images"] = images
    out = run.folder / _digest(asked)
    metrics = metrics_file("validate", out)
    if not metrics.exists():
        run.train()
        # Training has validation switched off.
        run.measure("validate", out, changed(settings, {"trainer.limit_val_batches": 1.0}))
    record = json.loads(metrics.read_text(encoding="utf-8"))
    missing = [key for key in _SCORED if key not in record["metrics"]]
    if missing:
        raise RunError(f"{metrics} lacks {', '.join(missing)}: search needs a ruler to score by.")
    scores = {key: record["metrics"][key] for key in _SCORED}
    return {
        "score": mean(scores.values()),
        **scores,
        "images": record["images"],
        "training": record["provenance"]["training"],
    }


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
