"""Hyper-parameters by the validation split: ``diffcf benchmark GRID --search``.

A method's ``search`` lists settings to try (dotted keys; ``{}`` is what its YAML says now). Each
answers interventions on images of the validation split; the test split is never asked. Each is
trained with a small budget, except where all of them differ in sampling only: then they are asked
of the benchmark's own training, since how hard a generator is best pressed depends on how well it
is trained. Nothing is set automatically: ``search.json`` names the choice, and whoever reads it
writes it into the YAML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from diffcf.benchmark.grid import Grid, Method
from diffcf.benchmark.process import RunError, claimed
from diffcf.benchmark.runner import Run, metrics_file
from diffcf.benchmark.settings import callback_arguments, changed, training_part
from diffcf.report import write_json

__all__ = ["SearchPlan", "search"]

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
