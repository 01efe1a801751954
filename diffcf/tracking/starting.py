"""Starting a W&B run: early, without asking anything, with errors of one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

__all__ = ["TrackingError", "start_runs", "wandb_loggers"]

REMEDY = "log in with `wandb login`, or set WANDB_MODE=offline to keep the run on this machine."


class TrackingError(RuntimeError):
    """Weights & Biases does not start."""


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """The trainer's W&B loggers; mostly none."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def start_runs(trainer: Trainer) -> None:
    """Start the runs of all W&B loggers now, on the first process.

    Lightning would start them after the data are prepared, and W&B would ask for a key on the
    terminal: a job over night would wait for an answer until the morning.

    Raises:
        TrackingError: in one sentence, when there is no key or no server.
    """
    for logger in wandb_loggers(trainer):
        # Its reports of its own errors go over the network as well, even of offline runs. This has
        # to be said before wandb is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb.errors

        if logger.save_dir is not None:
            # W&B takes the system's temporary folder where its own is missing.
            Path(logger.save_dir).mkdir(parents=True, exist_ok=True)
        try:
            with _nobody_at_the_terminal():
                _ = logger.experiment
        except (wandb.errors.Error, ValueError) as error:
            raise TrackingError(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    said = " ".join(line for line in lines if line and "further information" not in line)
    if "API key configured" in said:
        return f"Weights & Biases has no key on this machine: {REMEDY}"
    return f"Weights & Biases does not start ({said.rstrip('.')}): {REMEDY}"


@contextmanager
def _nobody_at_the_terminal() -> Iterator[None]:
    """An input that is at its end: W&B asks only those who can answer."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as nobody:
        sys.stdin = nobody
        try:
            yield
        finally:
            sys.stdin = terminal
