"""Where a W&B run writes: beside its checkpoint, and in a sweep each run in a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger, WandbLogger

from diffcf.class_path import class_at

__all__ = ["PROJECT", "settle"]

PROJECT = "diffcf"
"""Where runs go unless the logger or WANDB_PROJECT says otherwise."""

_HERE = "."  # WandbLogger's default folder
_FOLDER = "logs"  # what the experiments call the folder of their CSV files


def settle(config: Namespace) -> None:
    """Give a run that logs to W&B its folder and project, in a LightningCLI config that was parsed.

    The folder is ``trainer.default_root_dir`` unless the logger names another ``save_dir``. In a
    sweep it is ``<default_root_dir>/sweeps/<sweep>/<run>``, and checkpoints that would go to
    ``default_root_dir`` go there as well: the runs of a sweep share their config.
    """
    trainer = config.trainer
    loggers = [part.init_args for part in _parts(trainer.logger) if _is_wandb(part)]
    if not loggers:
        return
    root = trainer.default_root_dir or _HERE
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    folder = str(Path(root) / "sweeps" / sweep / run) if sweep and run else root
    trainer.default_root_dir = folder
    for logger in loggers:
        if str(logger.save_dir) in (_HERE, root):
            logger.save_dir = folder
        # A logger that replaces another in the config inherits its name.
        if logger.name == _FOLDER:
            logger.name = None
        logger.project = logger.project or os.environ.get("WANDB_PROJECT", PROJECT)
    for callback in _parts(trainer.callbacks):
        arguments = callback.get("init_args")
        if arguments is not None and arguments.get("dirpath") == root:
            arguments.dirpath = folder


def _is_wandb(logger: Namespace) -> bool:
    return issubclass(class_at(logger.class_path, Logger), WandbLogger)


def _parts(value: Any) -> list[Namespace]:
    """The objects described in one place of the config."""
    listed = value if isinstance(value, list) else [value]
    return [part for part in listed if isinstance(part, Namespace)]
