"""A progress bar that suits both loops: seldom drawn in training, at every batch in evaluation."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

__all__ = ["ProgressBar"]


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
