"""Results as people and programs read them: a table on the terminal, JSON with provenance."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback
from rich.console import Console
from rich.table import Table

from diffcf.class_path import path_of
from diffcf.counterfactual import Sampling
from diffcf.tables import table_rows
from diffcf.whole_file import whole_file

__all__ = [
    "device_name",
    "print_table",
    "provenance",
    "run_config",
    "versions",
    "write_json",
    "write_text",
]

_PACKAGES = ("diffcf", "torch", "lightning", "torchmetrics", "zuko", "jsonargparse")


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


def write_json(record: Mapping[str, Any], path: Path) -> None:
    """Write whole or not at all."""
    write_text(json.dumps(record, indent=2, default=str) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def provenance(
    trainer: Trainer, pl_module: Any, sampling: Sampling, seconds: float
) -> dict[str, Any]:
    """Where a measurement comes from: method, graph, seed, training, versions, device, config."""
    described = {"guidance": describe(sampling.guidance), "free": describe(sampling.free)}
    return {
        "method": path_of(type(pl_module)),
        "graph": pl_module.graph.to_dict(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "device": device_name(pl_module.device),
        "precision": trainer.precision,
        "evaluation_seconds": round(seconds, 1),
        "training": pl_module.training_record.as_dict(),
        "sampling": vars(sampling) | described,
        "versions": versions(),
        "config": run_config(trainer),
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def describe(rule: Any) -> dict[str, Any] | None:
    """A guidance rule by name and numbers."""
    return None if rule is None else {"rule": type(rule).__name__, **vars(rule)}


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        lines = [x for x in cpu_info.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {torch.get_num_threads()} threads"


def run_config(trainer: Trainer) -> dict[str, Any] | None:
    """What the command line made a run of, as plain text and numbers; None for runs from Python."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback):
            return yaml.safe_load(callback.parser.dump(callback.config, skip_none=False))
    return None
