"""Images on the training device (the processor stands in for it): the same batches, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data_modules import FlowDataModule, PendulumDataModule
from data_modules.base import FactorImageDataModule, Loaded
from data_modules.image_cache import CachedImages
from data_modules.loading import Batch, FactorImages, training_loader
from data_modules.orders import ShuffledOrder
from data_modules.resident import PlacedFactorImages, PlacedImages, fits, placed_splits
from diffcf.io import SettingsError

CPU = torch.device("cpu")
SMALL = {"batch_size": 8, "eval_batch_size": 5, "train_size": 40, "val_size": 7, "test_size": 6}
STYLES = ["subpixel", "published_bilinear", "published_lanczos"]


def batches(data: FactorImageDataModule) -> list[Batch]:
    """Two epochs of training, then validation and test."""
    data.setup()
    train = data.train_dataloader()
    return [*train, *train, *data.val_dataloader(), *data.test_dataloader()]


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 1
    for batch, other in zip(found, expected, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            assert value.dtype == other[name].dtype and torch.equal(value, other[name]), name


class Stored(FactorImageDataModule):
    """Nine images in a cache file, of which only some rows are kept."""

    def __init__(self, file: Path, **common: Any) -> None:
        super().__init__(PendulumDataModule().graph, None, **common)
        self.file = file

    def load(self, generator: torch.Generator) -> Loaded:
        images = CachedImages(self.file, (9, 3, 8, 8))
        rows = torch.arange(len(images))
        factors = torch.rand(len(images), 4, generator=generator)
        return Loaded(images, factors, {"train": rows[2:], "val": rows[:1], "test": rows[1:2]})


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_a_scene_are_the_same(workers: int) -> None:
    made = [
        PendulumDataModule(32, resident=choice, num_workers=workers, **SMALL)  # type: ignore[arg-type]
        for choice in (True, False)
    ]
    assert_same(batches(made[0]), batches(made[1]))
    assert isinstance(made[0].dataset("train"), PlacedFactorImages)
    assert made[0].train_dataloader().num_workers == 0, "no process may touch a card"
    assert made[1].train_dataloader().num_workers == workers


@pytest.mark.parametrize("kind", [PendulumDataModule, FlowDataModule])
def test_batches_of_styles_are_the_same(kind: type) -> None:
    settings = SMALL | {"train_styles": STYLES, "style": "published_box"}
    assert_same(
        batches(kind(64, resident=True, **settings)), batches(kind(64, resident=False, **settings))
    )


def test_batches_of_a_cache_file_are_the_same_and_read_it_once(tmp_path: Path) -> None:
    file = tmp_path / "images.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), dtype=np.uint8))
    settings = {"batch_size": 2, "train_size": 6}
    expected = batches(Stored(file, resident=False, **settings))
    data = Stored(file, resident=True, **settings)
    data.setup()
    loader = data.train_dataloader()
    placed = data.dataset("train").images
    assert isinstance(placed, PlacedImages) and placed.values.dtype == torch.uint8
    assert len(placed.values) == 8, "the rows that are kept, and no others"
    file.unlink()
    again = [*loader, *loader, *data.val_dataloader(), *data.test_dataloader()]
    assert_same(again, expected)


def test_auto_leaves_the_processor_alone() -> None:
    data = PendulumDataModule(32, **SMALL)  # type: ignore[arg-type]
    data.setup()
    assert data.resident == "auto" and type(data.dataset("train")) is FactorImages


def test_auto_takes_a_quarter_of_a_card_at_most() -> None:
    card = torch.device("cuda", 0)
    assert fits(25, "auto", card, 100) and not fits(26, "auto", card, 100)
    assert fits(100, True, card, 100)


def test_images_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(SettingsError, match=r"take 3\.00 GiB, but cuda:1 has 2\.00 GiB .* auto"):
        fits(3 * 2**30, True, torch.device("cuda", 1), 2 * 2**30)
    with pytest.raises(SettingsError, match="resident is auto, true or false, not 'always'"):
        PendulumDataModule(32, resident="always")  # type: ignore[arg-type]


# --- order ---


class Witness(LightningModule):
    """Remembers the images that every step was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        return self.weight.square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def seen(folder: Path, stops: list[int], residence: bool) -> list[Batch]:
    """The batches of runs that end at ``stops``, each going on from the last one's file."""
    given: list[Batch] = []
    file = folder / "step.ckpt"
    for stop in stops:
        keep = ModelCheckpoint(
            folder, "step", every_n_train_steps=1, enable_version_counter=False,
            save_on_train_epoch_end=False,
        )  # fmt: skip
        trainer = Trainer(
            max_steps=stop, accelerator="cpu", logger=False, callbacks=[keep], limit_val_batches=0,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        model = Witness()
        data = PendulumDataModule(32, resident=residence, **SMALL)  # type: ignore[arg-type]
        trainer.fit(model, datamodule=data, ckpt_path=file if file.exists() else None)
        given += model.seen
    return given


def test_a_resumed_run_meets_what_an_unbroken_one_on_the_host_meets(tmp_path: Path) -> None:
    # Epochs of five steps: cut in the middle, at an end, and in the middle again.
    assert_same(seen(tmp_path / "a", [3, 5, 12], True), seen(tmp_path / "b", [12], False))


def test_processes_are_dealt_the_same_shards() -> None:
    images, index = torch.rand(20, 1, 2, 2), torch.arange(20).flip(0)
    split = FactorImages(images, torch.rand(20, 3), index)
    placed = placed_splits({"train": split}, True, CPU)
    assert placed is not None
    for rank in (0, 1):
        loaders = [training_loader(part, 3, 0, 1) for part in (split, placed["train"])]
        for loader in loaders:
            loader.sampler.__init__(20, 1, 2, rank)  # type: ignore[misc]
        assert isinstance(loaders[0].sampler, ShuffledOrder)
        assert_same(list(loaders[1]), list(loaders[0]))
