"""Runs that are cut short, any number of times, meet the images that an unbroken run meets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data_modules.loading import FactorImages, training_loader

STEPS = 16  # four epochs of four


class Witness(LightningModule):
    """Remembers which images every step was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"].tolist())
        return self.weight.square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def seen(folder: Path, stops: list[int]) -> list[list[int]]:
    """What the steps were given, in runs that end at ``stops``, each going on from the last's file.

    The file is what a killed run leaves: written after a batch, before the epoch's end is noted.
    """
    data = FactorImages(torch.zeros(8, 1, 2, 2), torch.zeros(8, 1), torch.arange(8))
    given: list[list[int]] = []
    file = folder / "step.ckpt"
    for stop in stops:
        keep = ModelCheckpoint(
            folder, "step", every_n_train_steps=1, enable_version_counter=False,
            save_on_train_epoch_end=False,
        )  # fmt: skip
        trainer = Trainer(
            max_steps=stop, accelerator="cpu", logger=False, callbacks=[keep],
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        model = Witness()
        trainer.fit(
            model,
            training_loader(data, 2, 0, seed=0, trainer=trainer),
            ckpt_path=file if file.exists() else None,
        )
        given += model.seen
    return given


@pytest.mark.parametrize(
    "stops", [[3], [4], [5, 8], [4, 8], [4, 8, 12], [7, 8, 12], [4, 6, 8, 9, 12]], ids=str
)
def test_the_order_is_that_of_an_unbroken_run(tmp_path: Path, stops: list[int]) -> None:
    whole = seen(tmp_path / "whole", [STEPS])
    assert len(whole) == STEPS and whole[:4] != whole[4:8]
    assert seen(tmp_path / "parts", [*stops, STEPS]) == whole
