"""Time to quality: the mismatch of a training's counterfactuals against its minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer

from diffcf.commands.speed import Row
from diffcf.io import SettingsError, check_new
from diffcf.training import CounterfactualCallback, TrainingBudget, cli

LOOKS = 6  # validations of the training
GROUPS = ("roots", "leaves")
UNREAD = "val_images may be 0, or there is neither a scene nor an evaluator to read images"
C = TypeVar("C", bound=Callback)


class ValidationLog(Callback):
    """Notes the mismatch of roots and leaves at every validation, and the minutes trained by then.

    Attributes:
        seen: minutes, without those of validation, and ACM by group.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, float]]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        _one(trainer, CounterfactualCallback)  # before minutes of training that no one looks at

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        found = {name: trainer.callback_metrics.get(f"val/acm/{name}") for name in GROUPS}
        acm = {name: float(value) for name, value in found.items() if value is not None}
        self.seen.append((_one(trainer, TrainingBudget).spent / 60, acm))


def over_time(options: Sequence[str], minutes: float, out: Path) -> list[Row]:
    """ACM on validation images at ``LOOKS`` times of a training of ``minutes``; its run is ``out``.

    ``options`` are those of ``diffcf fit``: the experiment.

    Raises:
        SettingsError: for an experiment that validates no counterfactuals.
        OutputError: when ``out`` exists.
    """
    check_new(out)
    budget, log = (f"{part.__module__}.{part.__name__}" for part in (TrainingBudget, ValidationLog))
    every = timedelta(seconds=max(1, round(60 * minutes / LOOKS)))
    settings = {
        "max_steps": -1,
        "max_epochs": -1,
        "val_check_interval": f"{every // timedelta(days=1):02}:{_clock(every)}",
        "enable_progress_bar": "false",
        "enable_model_summary": "false",
    }
    trainer = cli(
        [
            "fit",
            *options,
            *(f"--trainer.{name}={value}" for name, value in settings.items()),
            f"--trainer.callbacks+={budget}",
            f"--trainer.callbacks.minutes={minutes}",
            f"--trainer.callbacks+={log}",
            f"--out={out}",
        ]
    ).trainer
    rows = [
        Row(f"ACM of {name} after {spent:.3g} minutes", acm[name], "of the range")
        for spent, acm in _one(trainer, ValidationLog).seen
        for name in GROUPS
        if name in acm
    ]
    if not rows:
        print(f"No validation measured a mismatch: {UNREAD}.", flush=True)
    return rows


def _clock(every: timedelta) -> str:
    hours, rest = divmod(every.seconds, 3600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02}"


def _one(trainer: Trainer, kind: type[C]) -> C:
    """The Trainer's callback of a kind; SettingsError where there is none."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kind):
            return callback
    raise SettingsError(f"The experiment has no {kind.__name__}, which measures quality: add one.")
