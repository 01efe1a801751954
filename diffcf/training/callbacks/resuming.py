"""One file, ``last.ckpt``, that always holds the newest state of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from diffcf.io import whole_file
from diffcf.methods import TrainedIO


class WholeFile(TrainedIO):
    """Checkpoints written beside their place, then renamed.

    Lightning writes to the system's temporary folder and moves the file from there, which is a copy
    where that folder is another disk: killed in the middle, the only checkpoint is a torn one. And
    what a killed run left in the temporary folder stays there, a file for every kill.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with whole_file(Path(path)) as unfinished, unfinished.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # When the disk is full, torch complains that its archive cannot be closed.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


class LastCheckpoint(ModelCheckpoint):
    """Writes ``<dirpath>/last.ckpt`` every few steps, at the end, and when training is cut short.

    ``diffcf fit --ckpt_path <dirpath>/last.ckpt`` goes on from it, after Ctrl-C as well.

    Args:
        dirpath: folder of the run.
        every_n_train_steps: steps between writes.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int = 500) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            auto_insert_metric_name=False,
            enable_version_counter=False,
            every_n_train_steps=every_n_train_steps,
            save_on_exception=True,
        )

    @property
    def file(self) -> Path:
        """The checkpoint: a file, or a folder where it is sharded."""
        return Path(str(self.dirpath)) / f"last{self.FILE_EXTENSION}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        # Other strategies' own ways, sharded checkpoints among them, are left alone.
        if type(trainer.strategy.checkpoint_io) in (TorchCheckpointIO, TrainedIO):
            trainer.strategy.checkpoint_io = WholeFile()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        ended = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
        last_epoch = trainer.max_epochs or -1
        ended |= last_epoch > 0 and trainer.current_epoch + 1 >= last_epoch
        # The final step rarely falls on a multiple of ``every_n_train_steps``.
        if (ended or trainer.should_stop) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.file)


class RandomState(Callback):
    """Keeps torch's generators (CPU and, where there is one, GPU) in the checkpoint.

    Validation leaves no trace on them, so that how often one validates does not change what is
    trained, and a checkpoint written before a validation resumes like one written after it.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] = {}
        self._before_validation: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        # A run that is cut short again before its first step has not drawn on what it restored.
        return self._before_validation or self._restored or _capture()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        _restore(self._restored)
        self._restored = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before_validation = _capture()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _restore(self._before_validation)
        self._before_validation = {}


def _capture() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore(state: dict[str, Any]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
