"""Batches from images in memory or in a cache: dataset, order and loader for all data modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from lightning.pytorch import Trainer
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.orders import RaisedOrder, ShuffledOrder
from diffcf.io import from_bytes

Batch = dict[str, Tensor]


class ImageRows(Protocol):
    """Images ``[N, C, H, W]``, floats in [-1, 1] or uint8 in 0…255, such as a tensor."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Loaded:
    """A whole dataset.

    Attributes:
        images: ``[N, C, H, W]``, float in [-1, 1] (half precision is enough: its step of 5e-4 near
            ±1 is an eighth of a grey level) or uint8 in 0…255; a tensor, or a cache file's rows.
        factors: ``[N, K]`` in [0, 1] units, NaN where a label is missing.
        split: rows of ``"train"``, ``"val"`` and ``"test"``, int64, in any order.
        noise: ``[N, M]``, what the scene's images depend on beyond their factors; None for nothing.
        intervened: ``[N, K]`` bool, the factors that somebody set in a row; None for none.
    """

    images: ImageRows
    factors: Tensor
    split: dict[str, Tensor]
    noise: Tensor | None = None
    intervened: Tensor | None = None


class BatchDataset(Dataset[Batch], ABC):
    """A dataset of a known length whose items come in whole batches."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, items: list[int]) -> Batch:
        """A whole batch by one indexing, instead of single samples to stack."""

    def __getitem__(self, item: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([item]).items()}


class FactorImages(BatchDataset):
    """Rows ``index`` of shared images ``[N, C, H, W]`` and factors ``[N, K]``, in float32.

    If ``mirrored``, all of them come a second time, the left on the right. Batches have the keys
    ``observed`` and ``intervened`` (:class:`diffcf.causal.Marks`) if any of the rows lacks a label
    (a factor that is NaN), and if in any of them a factor was set.
    """

    def __init__(
        self,
        images: ImageRows,
        factors: Tensor,
        index: Tensor,
        mirrored: bool = False,
        intervened: Tensor | None = None,
    ) -> None:
        self.images, self.factors, self.index = images, factors, index
        self.mirrored = mirrored
        self.partial = bool(factors[index].isnan().any())
        there = intervened is not None and bool(intervened[index].any())
        self.intervened = intervened if there else None

    def __len__(self) -> int:
        return len(self.index) * (2 if self.mirrored else 1)

    def __getitems__(self, items: list[int]) -> Batch:
        place, mirror = self.places(items)
        rows = self.index[place]
        image = mirror_some(as_floats(self.images[rows]), mirror)
        return {"image": image, "index": place, **self.labels(rows)}

    def labels(self, rows: Tensor) -> Batch:
        """Factors ``[B, K]`` of some rows of the whole dataset, and their marks."""
        batch = {"factors": self.factors[rows].float()}
        if self.partial:
            batch["observed"] = ~batch["factors"].isnan()
        if self.intervened is not None:
            batch["intervened"] = self.intervened[rows]
        return batch

    def set_items(self) -> Tensor | None:
        """Which items show a row in which a factor was set, ``[N]`` bool; None for none."""
        if self.intervened is None:
            return None
        return self._items(self.intervened[self.index].any(dim=1))

    def labelled_items(self) -> Tensor | None:
        """Which items have all labels, ``[N]`` bool; None if all of them or none have."""
        complete = ~self.factors[self.index].isnan().any(dim=1)
        return None if complete.all() or not complete.any() else self._items(complete)

    def _items(self, rows: Tensor) -> Tensor:
        return rows.repeat(2) if self.mirrored else rows

    def places(self, items: list[int]) -> tuple[Tensor, Tensor | None]:
        """Places in the split ``[B]``, and which images to mirror ``[B]`` (bool), if any."""
        item = torch.as_tensor(items)
        if not self.mirrored:
            return item, None
        mirror = item >= len(self.index)
        return item - len(self.index) * mirror, mirror


def mirror_some(image: Tensor, which: Tensor | None) -> Tensor:
    """Images ``[B, C, H, W]``, those of ``which`` ``[B]`` (bool) with left and right exchanged."""
    if which is None:
        return image
    return torch.where(which[:, None, None, None], image.flip(-1), image)


def as_floats(image: Tensor) -> Tensor:
    """Images as :class:`ImageRows` has them, in float32 in [-1, 1], where they are."""
    return from_bytes(image) if image.dtype == torch.uint8 else image.float()


class ResumableLoader(DataLoader[Batch]):
    """A loader over :class:`ShuffledOrder` that goes on mid-epoch.

    Its state is the epoch and how many images a step takes, of all processes: a run may be resumed
    with another number of them.
    """

    sampler: ShuffledOrder  # or a sequential one, by which Lightning replaces it to overfit
    trainer: Trainer | None = None

    def state_dict(self) -> dict[str, int]:
        if not isinstance(self.sampler, ShuffledOrder):
            return {}
        return {"epoch": self.sampler.epoch, "images": self._images}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if not state or not isinstance(self.sampler, ShuffledOrder):
            return
        images = state.get("images", self._images)
        epochs, steps = self._completed(self.sampler.length // images)
        self.sampler.go_on(state["epoch"] + epochs, images * steps)

    def _completed(self, epoch: int) -> tuple[int, int]:
        """Epochs (0 or 1) and steps that are completed of the checkpoint's epoch of that length."""
        if self.trainer is None:
            return 0, 0
        if not self.trainer.fit_loop.restarting:
            return 1, 0
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        done = int(progress.processed)  # type: ignore[attr-defined]
        limit = self.trainer.limit_train_batches
        length = min(epoch, limit) if isinstance(limit, int) else int(epoch * (limit or 1.0))
        # A checkpoint written after the last batch goes on with the next epoch.
        return (1, 0) if done >= length else (0, done)

    @property
    def _images(self) -> int:
        return (self.batch_size or 1) * self.sampler.num_replicas


def training_loader(
    dataset: BatchDataset,
    batch_size: int,
    num_workers: int,
    seed: int,
    trainer: Trainer | None = None,
    pin_memory: bool = False,
    raised: Sequence[tuple[Tensor, float]] = (),
) -> ResumableLoader:
    """Shuffled, of ``batch_size`` in each process, the incomplete last one dropped.

    ``pin_memory`` is for batches that a card is to copy while the host goes on; ``raised`` are
    groups of items that are to be seen more often (:class:`RaisedOrder`).
    """
    shared = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
    order = ShuffledOrder(len(dataset), seed, *shared)
    if raised:
        order = RaisedOrder(raised, seed, *shared)
    loader = ResumableLoader(
        dataset,
        batch_size=batch_size,  # by name: Lightning makes loaders anew with other samplers
        sampler=order,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_unchanged,
        drop_last=True,
        generator=Generator(),
        pin_memory=pin_memory,
    )
    loader.trainer = trainer
    return loader


def evaluation_loader(
    dataset: FactorImages, batch_size: int, num_workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """In the order of the set, to its end."""
    return DataLoader(
        dataset,
        batch_size=batch_size,  # by name: Lightning makes loaders anew with other samplers
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_unchanged,
        # Its own generator: starting an epoch draws nothing from the model's random numbers.
        generator=Generator(),
        pin_memory=pin_memory,
    )


def _unchanged(batch: object) -> object:
    """FactorImages hands over whole batches: there is nothing to collate."""
    return batch
