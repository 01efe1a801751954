"""What a checkpoint says of itself, beyond weights: graph, networks and how it was trained.

All of it is plain text and numbers, so that a checkpoint is read without unpickling any code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diffcf.allocation import AllocationLimit
from diffcf.archive import CheckpointError, check_archive
from diffcf.report import device_name

__all__ = [
    "SPEC_KEY",
    "CheckpointError",
    "TrainingRecord",
    "building",
    "one_line",
    "read_checkpoint",
    "spec_of",
]

SPEC_KEY = "diffcf"
"""Where a checkpoint keeps its description."""

ROOM = 256 * 2**20
LONGEST = 500


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The checkpoint as a dictionary of tensors and primitives.

    Raises:
        CheckpointError: when the file is missing, unreadable or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check the path.")
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise CheckpointError(f"Checkpoint {path} cannot be read: {one_line(error)}") from error
    spec_of(checkpoint, str(path))
    return checkpoint


def spec_of(checkpoint: Any, name: str = "This checkpoint") -> dict[str, Any]:
    """``{"graph", "networks", "training"}`` of a loaded checkpoint, or CheckpointError."""
    spec = checkpoint.get(SPEC_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(spec, dict):
        raise CheckpointError(f"{name} was not written by diffcf: it describes no networks.")
    return spec


@contextmanager
def building(path: str | Path, what: str, tensors: Mapping[str, Any]) -> Iterator[None]:
    """Build what a file describes, within the memory that its own weights call for.

    Args:
        path: the file, for messages.
        what: it describes, likewise.
        tensors: the file's weights.

    Raises:
        CheckpointError: for whatever goes wrong in the block.
    """
    weights = sum(value.nbytes for value in tensors.values() if isinstance(value, torch.Tensor))
    try:
        # Half precision is doubled on reading; the rest is for what is not kept in a file.
        with AllocationLimit(4 * weights + ROOM):
            yield
    except CheckpointError:
        raise
    except Exception as error:  # a description can be wrong in every way there is
        raise CheckpointError(
            f"{path} describes {what} that cannot be made: {one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    """The beginning of an error's text, or its kind, for use inside a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


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
