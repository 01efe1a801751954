"""Hyper-parameters by the validation split: ``diffcf benchmark GRID --search``.

A method's ``search`` lists settings to try (dotted keys; ``{}`` is what its YAML says now). Each is
trained with a small budget and answers interventions on images of the validation split; the test
split is never asked. Settings that differ in sampling only share one training. Nothing is set
automatically: ``search.json`` names the choice, and whoever reads it writes it into the YAML.
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
        minutes: budget of each training, by the clock of the benchmark's.
        images: of the validation split.
        threads: of each process.
    """

    minutes: float = 5.0
    images: int = 64
    threads: int = 1


def search(grid: Grid, method: Method, runs: Path, plan: SearchPlan, title: str) -> None:
    """Try every setting of a method's ``search`` and write ``search.json`` beside its results.

    Raises:
        RunError: when a stage fails, or the dataset has no ruler to score by.
    """
    folder = runs / grid.dataset / method.name / "search"
    results = grid.results / grid.dataset / method.name / "search.json"
    with claimed(folder) as lock:
        if lock is None:
            print(f"{title}: another runner is at it, skipped ({folder}/.lock)", flush=True)
            return
        tried = []
        for number, change in enumerate(method.search, start=1):
            settings = _short(grid.settings(method, grid.seeds[0], change), plan)
            run_folder = folder / _digest(training_part(settings))
            run_folder.mkdir(exist_ok=True)
            name = f"{title} {number}/{len(method.search)} {json.dumps(change)}"
            run = Run(run_folder, settings, lock, plan.threads, name)
            tried.append({"set": change, **_tried(run)})
    best = min(tried, key=lambda variant: variant["score"])
    record = {
        "benchmark": {
            "dataset": grid.dataset,
            "method": method.name,
            "seed": grid.seeds[0],
            "class_path": method.class_path,
        },
        "minutes": plan.minutes,
        "split": "val",
        "scored": f"mean of {' and '.join(_SCORED)}, least is best",
        "variants": tried,
        "choice": best["set"],
        "settings": _short(grid.settings(method, grid.seeds[0]), plan),
    }
    write_json(record, results)
    print(f"{title}: best is {json.dumps(best['set'])}, {best['score']:.4f} ({results})")


def _tried(run: Run) -> dict[str, Any]:
    """Score of a run's settings, measured now or before."""
    out = run.folder / _digest(callback_arguments(run.settings, "CounterfactualCallback"))
    metrics = metrics_file("validate", out)
    if not metrics.exists():
        run.train()
        # Training has validation switched off.
        run.measure("validate", out, changed(run.settings, {"trainer.limit_val_batches": 1.0}))
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


def _short(settings: dict[str, Any], plan: SearchPlan) -> dict[str, Any]:
    """The settings of a trial: a small budget, and validation images to answer."""
    callback_arguments(settings, "TrainingBudget")["minutes"] = plan.minutes
    callback_arguments(settings, "CounterfactualCallback")["val_images"] = plan.images
    return settings


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
