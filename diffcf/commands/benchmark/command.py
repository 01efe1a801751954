"""``diffcf benchmark experiments/benchmarks/pendulum.yaml``: every method, every seed, one table.

Runs the cells of a grid that are not done yet, one after another, and goes on after a failed one.
Several runners share a grid without a scheduler: each takes the cells that no other is working on
(``--threads 1`` lets two runners fill two cores). On a cluster, ``--list`` names the cells and
``--only method/seed`` runs one of them.

With ``--search``, tries the settings that methods list instead, on the validation split, and
records the best in ``search.json`` beside the results; it changes no file of the grid.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from diffcf.commands.benchmark.grid import Grid, GridCell
from diffcf.commands.benchmark.runner import Run, RunError, claimed, metrics_file, run_cell
from diffcf.commands.benchmark.settings import Settings, callback_arguments, changed, training_part
from diffcf.io import SettingsError, write_json

Jobs = list[tuple[str, Callable[[str], None]]]
"""Names, and what is to be called with the title of progress lines."""

_SCORED = ("acm/roots", "acm/leaves")


def benchmark(args: Sequence[str]) -> None:
    """Command ``diffcf benchmark``; ``--help`` lists the arguments.

    Raises:
        SettingsError: before anything runs, when a description is broken or names are unknown.
        SystemExit: with status 1 when a cell failed, 130 after Ctrl-C.
    """
    parsed = _parser().parse_args(list(args))
    if parsed.threads < 1:
        raise SettingsError(f"--threads must be at least 1, not {parsed.threads}.")
    every = [cell for path in parsed.grids for cell in Grid.load(path).cells(parsed.runs)]
    cells = _chosen(every, parsed.only)
    if parsed.list:
        print("\n".join(f"{cell}\t{cell.state}" for cell in cells))
        return
    jobs: Jobs = [(str(cell), partial(run_cell, cell, parsed.threads)) for cell in cells]
    try:
        failed = _run(_searches(cells, parsed) if parsed.search else jobs)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", flush=True)
        raise SystemExit(130) from None
    if failed:
        print(f"diffcf: failed: {', '.join(failed)}.", file=sys.stderr)
        raise SystemExit(1)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf benchmark", description="Run a grid of methods × seeds.")
    grids = "YAML files, see diffcf.commands.benchmark.grid"
    parser.add_argument("grids", type=Path, nargs="+", help=grids)
    only = "METHOD/SEED, or METHOD; may be repeated."
    parser.add_argument("--only", action="append", type=str, help=only)
    parser.add_argument("--list", action="store_true", help="Print the cells and their state.")
    search = "Search hyper-parameters instead, on validation."
    parser.add_argument("--search", action="store_true", help=search)
    parser.add_argument(
        "--search_minutes", type=PositiveFloat, default=5.0, help="Budget of a training."
    )
    parser.add_argument("--search_images", type=PositiveInt, default=64, help="Images of a trial.")
    parser.add_argument("--threads", type=int, default=1, help="Threads of each cell.")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="Working folder.")
    return parser


def _chosen(cells: Sequence[GridCell], only: Sequence[str] | None) -> list[GridCell]:
    """The cells that ``--only`` names, or all."""
    asked, names = set(only or ()), list(dict.fromkeys(cell.name for cell in cells))
    if unknown := asked.difference(names, (cell.method.name for cell in cells)):
        raise SettingsError(f"There is no cell {min(unknown)}; there are {', '.join(names)}.")
    return [cell for cell in cells if not asked or {cell.name, cell.method.name} & asked]


def _run(jobs: Jobs) -> list[str]:
    """Do the jobs; the names of those that failed."""
    failed = []
    for number, (name, job) in enumerate(jobs, start=1):
        title = f"[{number}/{len(jobs)}] {name}"
        try:
            job(title)
        except RunError as error:
            print(f"{title}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
    return failed


def _searches(cells: Sequence[GridCell], parsed: Namespace) -> Jobs:
    """A search for each method that lists settings, with the first seed that was chosen."""
    first: dict[str, GridCell] = {}
    for cell in cells:
        if cell.method.search and cell.training is None:
            first.setdefault(f"{cell.grid.dataset} {cell.method.name}", cell)
    if not first:
        raise SettingsError("None of these methods lists settings to try: give one a search.")
    return [(name, partial(search, cell, parsed)) for name, cell in first.items()]


def search(cell: GridCell, parsed: Namespace, title: str) -> None:
    """Try every setting of a method's ``search`` and write ``search.json`` beside its results.

    Settings that leave the training as it is share that of the cell. Otherwise every setting gets
    a training of ``--search_minutes``.

    Raises:
        RunError: when a stage fails, or the dataset has no ruler to score by.
    """
    changes = cell.method.search
    settings = partial(cell.grid.settings, cell.method, cell.seed)
    shipped, *trials = map(settings, ({}, *changes))
    shared = all(training_part(trial) == training_part(shipped) for trial in trials)
    if not shared:
        for trial in (shipped, *trials):
            callback_arguments(trial, "TrainingBudget")["minutes"] = float(parsed.search_minutes)
    folder = cell.folder if shared else cell.folder.parent / "search"
    with claimed(folder) as lock:
        if lock is None:
            print(f"{title}: another runner is at it, skipped ({folder}/.lock)", flush=True)
            return
        tried = []
        for number, (change, trial) in enumerate(zip(changes, trials, strict=True), start=1):
            run_folder = folder if shared else folder / _digest(training_part(trial))
            run_folder.mkdir(exist_ok=True)
            name = f"{title} {number}/{len(trials)} {json.dumps(change)}"
            run = Run(run_folder, shipped if shared else trial, lock, parsed.threads, name)
            tried.append({"set": change, **_tried(run, trial, int(parsed.search_images))})
    best = min(tried, key=lambda variant: variant["score"])
    record = {
        "benchmark": cell.origin(),
        "minutes": callback_arguments(shipped, "TrainingBudget")["minutes"],
        "split": "val",
        "scored": f"mean of {' and '.join(_SCORED)}, least is best",
        "variants": tried,
        "choice": best["set"],
        "settings": shipped,
    }
    results = cell.results.parent / "search.json"
    write_json(record, results)
    print(f"{title}: best is {json.dumps(best['set'])}, {best['score']:.4f} ({results})")


def _tried(run: Run, settings: Settings, images: int) -> Settings:
    """Score of settings, with the run trained and measured unless that was done before."""
    measured = callback_arguments(settings, "CounterfactualCallback")
    measured["val_images"] = images
    out = run.folder / _digest(measured)
    metrics = metrics_file("validate", out)
    if not metrics.exists():
        run.train()
        # Training has validation switched off.
        run.measure("validate", out, changed(settings, {"trainer.limit_val_batches": 1.0}))
    record = json.loads(metrics.read_text(encoding="utf-8"))
    if missing := ", ".join(key for key in _SCORED if key not in record["metrics"]):
        raise RunError(f"{metrics} lacks {missing}: search needs a ruler to score by.")
    scores = {key: record["metrics"][key] for key in _SCORED}
    return {
        "score": mean(scores.values()),
        **scores,
        "images": record["images"],
        "training": record["provenance"]["training"],
    }


def _digest(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
