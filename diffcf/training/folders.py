"""Where a run writes: in one folder of its own, in which nothing finished is written over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from diffcf.io import RESULTS, class_at

PROJECT = "diffcf"
"""W&B's project of a run, unless the logger or WANDB_PROJECT says otherwise."""

_HERE = "."  # WandbLogger's default folder, and the Trainer's
_LOGS = "logs"  # what the experiments call the folder of their CSV files


def choose_folders(config: Namespace) -> None:
    """Set the run's folder, and project and name of a W&B run, in LightningCLI's parsed config.

    The folder is ``out``, or else ``trainer.default_root_dir``; checkpoints and logs that lie in
    the latter move to the former. In a W&B sweep it is ``<folder>/sweeps/<sweep>/<run>``: the runs
    of a sweep share their config.
    """
    if config.get("out") is not None:
        _move(config.trainer, str(config.out))
    loggers = [part for part in parts(config.trainer.logger) if _is_wandb(part)]
    if not loggers:
        return
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    root = config.trainer.default_root_dir or _HERE
    folder = str(Path(root) / "sweeps" / sweep / run) if sweep and run else root
    _move(config.trainer, folder)
    for logger in (part.init_args for part in loggers):
        if str(logger.save_dir) == _HERE:
            logger.save_dir = folder
        # A logger that replaces another in the config inherits its name.
        if logger.name == _LOGS:
            logger.name = None
        logger.project = logger.project or os.environ.get("WANDB_PROJECT", PROJECT)


def _move(trainer: Namespace, folder: str) -> None:
    """Everything in ``trainer.default_root_dir`` goes to ``folder``."""
    root, trainer.default_root_dir = str(trainer.default_root_dir or _HERE), folder
    for part in (*parts(trainer.logger), *parts(trainer.callbacks)):
        arguments = part.get("init_args") or Namespace()
        for name in {"save_dir", "dirpath"} & set(vars(arguments)):
            place = arguments[name]
            if place is not None and Path(place).is_relative_to(root):
                arguments[name] = str(Path(folder, Path(place).relative_to(root)))


def parts(value: object) -> list[Namespace]:
    """The objects described in one place of the config."""
    listed = value if isinstance(value, list) else [value]
    return [part for part in listed if isinstance(part, Namespace)]


def _is_wandb(part: Namespace) -> bool:
    return issubclass(class_at(part.class_path, object), WandbLogger)


class SavedConfig(SaveConfigCallback):
    """Saves the config as ``config.yaml``; that of a test, beside a training's, as its own file.

    ``text`` is the config as YAML.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, text: str) -> None:
        super().__init__(parser, config)
        self.text = text

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # log_dir synchronises
        if not trainer.is_global_zero:
            return
        fitting = trainer.state.fn == TrainerFn.FITTING
        folder.mkdir(parents=True, exist_ok=True)
        # A resumed run goes on in its folder, and tests may follow each other in one.
        path = folder / ("config.yaml" if fitting else f"config_{stage}.yaml")
        path.write_text(self.text, encoding="utf-8")


def results_folder(trainer: Trainer, stage: str) -> Path:
    """Where ``stage`` (``"val"`` or ``"test"``) leaves its results; to call on every process.

    ``<log dir>/counterfactuals/<stage>``, in which the validations of a training follow each
    other. One that stands alone never replaces another: it goes to ``<stage>_2``, ``_3`` …
    """
    # log_dir synchronises.
    folder = Path(trainer.log_dir or trainer.default_root_dir) / "counterfactuals"
    if trainer.state.fn == TrainerFn.FITTING:
        return folder / stage
    return next(place for place in _numbered(folder / stage) if not (place / RESULTS).exists())


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}_{number}")
        number += 1
