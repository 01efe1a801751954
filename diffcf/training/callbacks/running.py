"""Callbacks of a training's course: progress bar, time budget, last checkpoint, random state."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import Tensor

from diffcf.io import OutputError, SettingsError, whole_file
from diffcf.methods import CounterfactualModule, TrainedIO


def checked_module(pl_module: LightningModule, callback: Callback) -> CounterfactualModule:
    """``pl_module`` itself; SettingsError when it is none of the models ``callback`` is for."""
    if not isinstance(pl_module, CounterfactualModule):
        raise SettingsError(
            f"{type(callback).__name__} needs a diffcf.methods.CounterfactualModule, not a "
            f"{type(pl_module).__name__}: remove the callback."
        )
    return pl_module


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, drawn at every batch of validation, test and predict, since those take long.

    Args:
        train_refresh_rate: training batches between two drawings.
    """

    def __init__(self, train_refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=1)
        self.train_refresh_rate = train_refresh_rate

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == self.total_train_batches
        if last or (batch_idx + 1) % self.train_refresh_rate == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


_CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class TrainingBudget(Callback):
    """Ends training when its time is spent, and scales the learning rate's schedules to that time.

    Every method then gets the same time on whatever machine, and its learning rate reaches zero
    when the time does. Validation does not count. A resumed run continues with the time left.

    Args:
        minutes: of training.
        clock: ``"wall"``, or ``"processor"``: processor time of this process, summed over its
            cores, which counts the same on a machine with other work to do.

    Raises:
        SettingsError: unless ``minutes`` is positive and the clock is one of the two; at fit, when
            the model is no :class:`diffcf.methods.CounterfactualModule`.
    """

    def __init__(self, minutes: float, clock: Literal["wall", "processor"] = "wall") -> None:
        if minutes <= 0:
            raise SettingsError(f"minutes of a training budget must be positive, not {minutes}.")
        if clock not in _CLOCKS:
            raise SettingsError(f"The clock of a budget is one of {list(_CLOCKS)}, not '{clock}'.")
        self.minutes, self.clock = minutes, clock
        self.spent = 0.0
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["spent"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        checked_module(pl_module, self).time_spent = self._share()
        self._mark = _CLOCKS[self.clock]()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = _CLOCKS[self.clock]()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = _CLOCKS[self.clock]()
        # All processes stop at the same step: they follow the first one's clock.
        self.spent = trainer.strategy.broadcast(self.spent + now - self._mark)
        self._mark = now
        checked_module(pl_module, self).time_spent = self._share()
        trainer.should_stop = trainer.should_stop or self._share() >= 1.0

    def _share(self) -> float:
        """The share of the time that is spent, in [0, 1]."""
        return min(1.0, self.spent / (60 * self.minutes))


class WholeFile(TrainedIO):
    """Checkpoints written beside their place, then renamed.

    Lightning writes to the system's temporary folder and moves the file from there: where that is
    another disk, a run killed in the middle leaves a torn checkpoint, and always a temporary file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
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

    ``diffcf fit --ckpt_path <dirpath>/last.ckpt`` resumes from it, after Ctrl-C as well. Only the
    training that wrote it, or goes on from it, ever writes over it.

    Args:
        dirpath: folder of the run.
        every_n_train_steps: steps between writes.

    Raises:
        OutputError: at fit, when the folder holds the checkpoint of another training.
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
        self._owned = False  # whether the file is this training's to write
        self._training = False  # it is not before all that a resumed training was is restored

    @property
    def file(self) -> Path:
        """The checkpoint: a file, or a folder where it is sharded."""
        return Path(str(self.dirpath)) / f"last{self.FILE_EXTENSION}"

    def check_free(self, trainer: Trainer, resumed: str | Path | None) -> None:
        """OutputError when the file is of another training than ``resumed``, a checkpoint."""
        last = self.file
        if self._owned or trainer.fast_dev_run or not last.exists():  # type: ignore[attr-defined]
            return
        if resumed is not None and os.path.realpath(resumed) == os.path.realpath(last):
            return
        # A job that SLURM submitted again resumes from what Lightning saved for it.
        saved = Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")
        if SLURMEnvironment.detect() and any(saved):
            return
        shown = last.relative_to(Path.cwd()) if last.is_relative_to(Path.cwd()) else last
        raise OutputError(
            f"{shown} holds a training already, which this one would write over: go on with it by "
            f"--ckpt_path {shown}, or name another folder by --out."
        )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Before any process trains. All of them refuse where the first one does.
        refusal = None
        if trainer.is_global_zero:
            try:
                self.check_free(trainer, trainer.ckpt_path)
            except OutputError as error:
                refusal = str(error)
        if (refusal := trainer.strategy.broadcast(refusal)) is not None:
            raise OutputError(refusal)
        self._owned = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._training = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._training:
            super().on_exception(trainer, pl_module, exception)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        # A strategy's own checkpoint writer, for sharded checkpoints for example, is kept.
        if type(trainer.strategy.checkpoint_io) in (TorchCheckpointIO, TrainedIO):
            trainer.strategy.checkpoint_io = WholeFile()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        ended = 0 < trainer.max_steps <= trainer.global_step
        ended |= 0 < (trainer.max_epochs or -1) <= trainer.current_epoch + 1
        # The final step rarely falls on a multiple of ``every_n_train_steps``.
        if (ended or trainer.should_stop) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.file, weights_only=False)


class RandomState(Callback):
    """Keeps torch's generators (CPU and, where there is one, GPU) in the checkpoint.

    Validation restores them when it ends, so that how often one validates does not change what is
    trained, and a checkpoint written before a validation resumes like one written after it.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Tensor] = {}
        self._before_validation: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        # A run that is cut short again before its first step has not drawn on what it restored.
        return self._before_validation or self._restored or _capture()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        _restore(self._restored)
        self._restored = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before_validation = _capture()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _restore(self._before_validation)
        self._before_validation = {}


def _capture() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore(state: dict[str, Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
