"""What a checkpoint says of itself, beyond weights: graph, networks and how it was trained.

All of it is plain text and numbers, so that a checkpoint is read without unpickling any code.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from diffcf.report import device_name

__all__ = ["SPEC_KEY", "CheckpointError", "TrainingRecord", "read_checkpoint", "spec_of"]

SPEC_KEY = "diffcf"
"""Where a checkpoint keeps its description."""


class CheckpointError(ValueError):
    """The checkpoint is missing, unreadable, not one of ours, or belongs to another graph."""


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The checkpoint as a dictionary of tensors and primitives.

    Raises:
        CheckpointError: when the file is missing, unreadable or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check the path.")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise CheckpointError(f"Checkpoint {path} cannot be read: {error}") from error
    spec_of(checkpoint, str(path))
    return checkpoint


def spec_of(checkpoint: Any, name: str = "This checkpoint") -> dict[str, Any]:
    """``{"graph", "networks", "training"}`` of a loaded checkpoint, or CheckpointError."""
    if not isinstance(checkpoint, dict) or SPEC_KEY not in checkpoint:
        raise CheckpointError(f"{name} was not written by diffcf: it describes no networks.")
    return checkpoint[SPEC_KEY]


class TrainingRecord:
    """Steps, seconds (wall, processor), seed and device of a training, over its resumed parts."""

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        self._record = dict(record or {})
        self._clocks: tuple[float, float] | None = None

    def start(self) -> None:
        """Start the clock: training begins or goes on."""
        self._clocks = (time.perf_counter(), time.process_time())

    def update(self, step: int, device: torch.device) -> dict[str, Any]:
        """The record as of now."""
        if self._clocks is not None:
            now = (time.perf_counter(), time.process_time())
            wall, processor = (b - a for a, b in zip(self._clocks, now, strict=True))
            self._clocks = now
            self._record = {
                "seconds": self._record.get("seconds", 0.0) + wall,
                "processor_seconds": self._record.get("processor_seconds", 0.0) + processor,
                "steps": step,
                "seed": os.environ.get("PL_GLOBAL_SEED"),
                "device": device_name(device),
            }
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        # Rounded here and not where it is kept: parts of a second would get lost at every save.
        return {k: round(v, 1) if isinstance(v, float) else v for k, v in self._record.items()}
