"""A progress bar that suits both loops: seldom drawn in training, at every batch in evaluation."""

from __future__ import annotations

import time
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from diffcf.methods import CounterfactualModule


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, drawn at every batch of validation, test and predict.

    A training batch takes a moment, a batch of counterfactuals half a minute: one rate cannot serve
    both, and a bar that stands still looks like a program that hangs.

    Args:
        train_refresh_rate: training batches between two drawings.
    """

    def __init__(self, train_refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=1)
        self.train_refresh_rate = train_refresh_rate

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        last = batch_idx + 1 == self.total_train_batches
        if last or (batch_idx + 1) % self.train_refresh_rate == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


_CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class TrainingBudget(Callback):
    """Ends training when its time is spent, and has the schedules run by that time.

    Every method then gets the same time on whatever machine, and its learning rate reaches zero
    when the time does. Validation does not count. A resumed run goes on with what is left.

    Args:
        minutes: of training.
        clock: ``"wall"``, or ``"processor"``: processor time of this process, summed over its
            cores, which counts the same on a machine with other work to do.

    Raises:
        ValueError: unless ``minutes`` is positive and the clock is one of the two.
        TypeError: at fit, when the model is no :class:`CounterfactualModule`.
    """

    def __init__(self, minutes: float, clock: Literal["wall", "processor"] = "wall") -> None:
        if minutes <= 0:
            raise ValueError(f"minutes of a training budget must be positive, not {minutes}.")
        if clock not in _CLOCKS:
            raise ValueError(f"The clock of a budget is one of {list(_CLOCKS)}, not '{clock}'.")
        self.minutes, self.clock = minutes, clock
        self.spent = 0.0
        self._mark = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["spent"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, CounterfactualModule):
            raise TypeError(f"TrainingBudget cannot set the pace of a {type(pl_module).__name__}.")
        pl_module.time_spent = min(1.0, self.spent / (60 * self.minutes))
        self._mark = _CLOCKS[self.clock]()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = _CLOCKS[self.clock]()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = _CLOCKS[self.clock]()
        # All processes stop at the same step: they follow the first one's clock.
        self.spent = trainer.strategy.broadcast(self.spent + now - self._mark)
        self._mark = now
        pl_module.time_spent = min(1.0, self.spent / (60 * self.minutes))
        trainer.should_stop = trainer.should_stop or pl_module.time_spent >= 1.0
