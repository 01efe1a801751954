"""One file, ``last.ckpt``, that always holds the newest state of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from diffcf.whole_file import whole_file

__all__ = ["LastCheckpoint"]


class WholeFile(TorchCheckpointIO):
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
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFile()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        ended = trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps
        last_epoch = trainer.max_epochs or -1
        ended |= last_epoch > 0 and trainer.current_epoch + 1 >= last_epoch
        # The final step rarely falls on a multiple of ``every_n_train_steps``.
        if (ended or trainer.should_stop) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.file)
