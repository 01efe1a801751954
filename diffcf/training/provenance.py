"""Results as people and programs read them: a table on the terminal, JSON with provenance."""

from __future__ import annotations

import os
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback

from diffcf.io import device_name, path_of, versions
from diffcf.methods import Sampling


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


def describe(rule: Any) -> dict[str, Any] | None:
    """A guidance rule by name and numbers."""
    return None if rule is None else {"rule": type(rule).__name__, **vars(rule)}


def run_config(trainer: Trainer) -> dict[str, Any] | None:
    """What the command line made a run of, as plain text and numbers; None for runs from Python."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback):
            return yaml.safe_load(callback.parser.dump(callback.config, skip_none=False))
    return None
