"""Mirrored training images: each comes twice, in an order that only seed and epoch decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data_modules.loading import Batch
from data_modules.stored import ImageTable, StoredImageDataModule
from diffcf.causal import CausalGraph, Factor

COUNT = {"train": 6, "val": 3, "test": 3}


class Ramps(StoredImageDataModule):
    """Images that are darker on the left, each of another hue: nothing equals its mirror image."""

    def __init__(self, root: Path, **common: Any) -> None:
        graph = CausalGraph([Factor("hue")])
        super().__init__(graph, None, image_size=8, batch_size=4, eval_batch_size=2, **common)
        self.root = root

    def draw(self) -> None:
        for place in range(sum(COUNT.values())):
            row = torch.arange(8, dtype=torch.uint8)[:, None] * torch.tensor([20, 3, 1]).byte()
            row[:, 1] += 10 * place
            image = row.expand(8, 8, 3).contiguous()
            Image.fromarray(image.numpy()).save(self.root / f"{place}.png")

    def table(self, generator: torch.Generator) -> ImageTable:
        rows = torch.arange(sum(COUNT.values()))
        split = dict(zip(COUNT, rows.split(list(COUNT.values())), strict=True))
        files = [f"{row}.png" for row in rows]
        return ImageTable(self.root, files, rows[:, None] / len(rows), files, split)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Ramps(tmp_path).draw()
    return tmp_path


def set_up(root: Path, **settings: Any) -> Ramps:
    data = Ramps(root, **settings)
    data.setup()
    return data


def test_an_epoch_has_every_image_and_its_mirror_image(root: Path) -> None:
    plain, data = set_up(root), set_up(root, mirror=True)
    batches = list(data.train_dataloader())
    assert len(batches) == 3 and len(list(plain.train_dataloader())) == 1
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    for row in range(COUNT["train"]):
        seen = whole["index"] == row
        first, second = whole["image"][seen]
        upright = plain.images_of("train", torch.tensor([row]))[0]
        assert torch.equal(first, second.flip(-1)) and not torch.equal(first, second)
        assert any(torch.equal(upright, image) for image in (first, second))
        assert torch.equal(whole["factors"][seen], plain.factors_of("train")[[row, row]])


def test_only_training_is_mirrored_and_no_split_changes_its_size(root: Path) -> None:
    plain, data = set_up(root), set_up(root, mirror=True)
    for stage, count in COUNT.items():
        assert data.size_of(stage) == len(data.factors_of(stage)) == count
        rows = torch.arange(count)
        assert torch.equal(data.images_of(stage, rows), plain.images_of(stage, rows))
    for stage in ("val", "test"):
        pairs = zip(loader(data, stage), loader(plain, stage), strict=True)
        assert all(torch.equal(ours[name], theirs[name]) for ours, theirs in pairs for name in ours)


def loader(data: Ramps, stage: str) -> list[Batch]:
    return list(data.val_dataloader() if stage == "val" else data.test_dataloader())


def test_what_is_mirrored_depends_on_the_number_of_the_item_alone(root: Path) -> None:
    items = set_up(root, mirror=True).dataset("train")
    assert len(items) == 2 * COUNT["train"]
    for row in range(COUNT["train"]):
        upright, mirrored = items[row], items[row + COUNT["train"]]
        assert torch.equal(mirrored["image"], upright["image"].flip(-1))
        assert upright["index"] == mirrored["index"] == row
    assert len(list(items)) == len(items), "no item lies beyond the last"


def test_resident_images_are_mirrored_alike(root: Path) -> None:
    here, there = (set_up(root, mirror=True, resident=choice) for choice in (False, True))
    loaders = here.train_dataloader(), there.train_dataloader()
    for _ in range(2):  # epochs
        for batch, other in zip(*loaders, strict=True):
            assert all(torch.equal(batch[name], other[name]) for name in batch)


def test_without_mirror_an_epoch_is_what_it_was(root: Path) -> None:
    data = set_up(root)
    assert len(data.dataset("train")) == COUNT["train"]
    assert not any(torch.equal(i["image"], i["image"].flip(-1)) for i in data.dataset("train"))
