"""Batches from images that lie in memory: dataset, order and loader, shared by data modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["Batch", "FactorImages", "ShuffledOrder", "factor_loader"]

Batch = dict[str, Tensor]


class FactorImages(Dataset[Batch]):
    """Rows ``index`` of shared images ``[N, C, H, W]`` and factors ``[N, K]``, as float32 batches.

    The images may be kept in half precision: its step of 5e-4 near ±1 is an eighth of a grey level.
    """

    def __init__(self, images: Tensor, factors: Tensor, index: Tensor) -> None:
        self.images, self.factors, self.index = images, factors, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([item]).items()}

    def __getitems__(self, items: list[int]) -> Batch:
        # The loader fetches a whole batch by one indexing instead of stacking single samples.
        place = torch.as_tensor(items)
        rows = self.index[place]
        return {
            "image": self.images[rows].float(),
            "factors": self.factors[rows].float(),
            "index": place,
        }


class ShuffledOrder(Sampler[int]):
    """A new order every epoch, a function of seed and epoch alone.

    So a resumed run meets the batches that the unbroken run would have met. Lightning tells the
    epoch through :meth:`set_epoch`.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.length, generator=generator).tolist()


def factor_loader(
    dataset: FactorImages, batch_size: int, num_workers: int = 0, shuffle_seed: int | None = None
) -> DataLoader[Batch]:
    """A loader; with ``shuffle_seed`` for training: shuffled, without the incomplete last batch."""
    training = shuffle_seed is not None
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=ShuffledOrder(len(dataset), shuffle_seed) if shuffle_seed is not None else None,
        drop_last=training,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_as_it_is,
        # Its own generator: starting an epoch draws nothing from the model's random numbers.
        generator=Generator(),
    )


def _as_it_is(batch: Any) -> Any:
    # FactorImages hands over whole batches: there is nothing to collate.
    return batch
