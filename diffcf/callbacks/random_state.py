"""Random state in checkpoints, so that a resumed run draws what the unbroken one would have drawn.

Lightning restores weights, optimizer, schedule and progress, but not the random generators.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["RandomState"]


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
