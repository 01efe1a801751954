"""What a W&B run is and what it leaves behind: its config, and its checkpoint as an artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from diffcf.callbacks.checkpoint import LastCheckpoint
from diffcf.report import run_config
from diffcf.tracking import wandb_loggers

__all__ = ["WandbRecorder"]


class WandbRecorder(Callback):
    """Logs the config once, nested, and the checkpoint with its config when training has ended.

    Does nothing unless a WandbLogger is among the loggers, and then on the first process only. The
    command line always has it, with its arguments under ``wandb``.

    Args:
        checkpoint: whether the checkpoint of :class:`LastCheckpoint` is logged, with
            ``config.yaml``, as the artifact ``model-<run>``. A training that is cut short leaves
            it in the folder of the run only.
    """

    def __init__(self, checkpoint: bool = True) -> None:
        self.checkpoint = checkpoint

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in wandb_loggers(trainer):
            run = logger.experiment
            # What is there already stays: a sweep locks what it sets, and a run that is gone on
            # with keeps the config of its training.
            config = _by_class(run_config(trainer) or {})
            run.config.update({k: v for k, v in config.items() if k not in run.config})

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        written = [callback for callback in callbacks if isinstance(callback, LastCheckpoint)]
        if self.checkpoint and written:
            for logger in wandb_loggers(trainer):
                _log_checkpoint(logger.experiment, written[0], trainer)


def _log_checkpoint(run: Any, last: LastCheckpoint, trainer: Trainer) -> None:
    import wandb

    artifact = wandb.Artifact(f"model-{run.id}", "model", metadata={"step": trainer.global_step})
    # A copy, since the file is written over when training goes on.
    if last.file.is_dir():
        artifact.add_dir(str(last.file), last.file.name)
    else:
        artifact.add_file(str(last.file))
    with artifact.new_file("config.yaml") as file:
        yaml.safe_dump(run_config(trainer), file, sort_keys=False)
    run.log_artifact(artifact)


def _by_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its list of callbacks as a mapping by class: W&B sorts by keys, not lists."""
    trainer = dict(config.get("trainer") or {})
    count: Counter[str] = Counter()
    named = {}
    for callback in trainer.get("callbacks") or []:
        name = callback["class_path"].rpartition(".")[2]
        count[name] += 1
        named[name if count[name] == 1 else f"{name}_{count[name]}"] = callback
    return {**config, "trainer": trainer | {"callbacks": named}} if trainer else dict(config)
