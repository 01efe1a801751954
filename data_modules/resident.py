"""Images that lie on the training device, where batches are gathered instead of copied there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from data_modules.loading import Batch, FactorImages, ImageRows, as_floats, mirror_some
from diffcf.io import SettingsError

Residence = bool | Literal["auto"]
SHARE = 0.25  # of a card's free memory that "auto" takes: networks and activations need the rest
CHUNK = 1024  # images copied at once, so that no second copy of all of them is ever in memory
GIB = 2**30


@runtime_checkable
class Placeable(Protocol):
    """Images that know how to lie on a device, such as those that are drawn when asked for."""

    def size_when_placed(self) -> int:
        """Bytes that they take there."""

    def placed(self, device: torch.device) -> ImageRows:
        """The same images there: rows ``[B]`` on the host give images ``[B, C, H, W]`` there."""


class PlacedImages:
    """The ``rows`` of images ``[N, C, H, W]`` on a device; indexed by rows ``[B]`` on the host."""

    def __init__(self, images: ImageRows, rows: Tensor, device: torch.device) -> None:
        self._place = torch.full((int(rows.max()) + 1,), -1)
        self._place[rows] = torch.arange(len(rows))
        first = images[rows[:1]]
        shape = (len(rows), *first.shape[1:])
        self.values = torch.empty(shape, dtype=first.dtype, device=device)
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            self.values[part] = images[rows[part]].to(device)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return take(self.values, self._place[rows])


class PlacedFactorImages(FactorImages):
    """A split whose ``images`` and factors lie on ``device``; its batches come into being there.

    Rows travel in pinned memory, images do not travel, and nothing waits for the device.
    """

    def __init__(self, split: FactorImages, images: ImageRows, device: torch.device) -> None:
        marks = split.mirrored, split.intervened
        super().__init__(images, split.factors, split.index, *marks)
        self._labels = {name: v.to(device) for name, v in split.labels(split.index).items()}

    def __getitems__(self, items: list[int]) -> Batch:
        place, mirror = self.places(items)
        device = self._labels["factors"].device
        there, mirror = moved(place, device), None if mirror is None else moved(mirror, device)
        image = mirror_some(as_floats(self.images[self.index[place]]), mirror)
        labels = {name: value.index_select(0, there) for name, value in self._labels.items()}
        return {"image": image, "index": there, **labels}


def placed_splits(
    splits: dict[str, FactorImages], residence: Residence, device: torch.device
) -> dict[str, FactorImages] | None:
    """The splits of one set of images, on the device; None where they are not to lie there.

    Raises:
        SettingsError: when they are to lie there whatever it takes, and do not fit.
    """
    if residence is False or (residence == "auto" and device.type not in ("cuda", "mps")):
        return None
    images = next(iter(splits.values())).images
    rows = torch.cat([split.index for split in splits.values()]).sort().values
    if isinstance(images, Tensor) and images.device == device:
        there: ImageRows = images
    elif isinstance(images, Placeable):
        if not fits(images.size_when_placed(), residence, device, free_memory(device)):
            return None
        there = images.placed(device)
    else:
        size = len(rows) * images[rows[:1]].nbytes
        if not fits(size, residence, device, free_memory(device)):
            return None
        there = PlacedImages(images, rows, device)
    return {name: PlacedFactorImages(split, there, device) for name, split in splits.items()}


def fits(size: int, residence: Residence, device: torch.device, free: int | None) -> bool:
    """Whether images of ``size`` bytes are to lie on a device with ``free`` bytes.

    Raises:
        SettingsError: when ``residence`` is True and they do not fit.
    """
    if residence == "auto":
        return free is not None and size <= SHARE * free
    if free is not None and size > free:
        raise SettingsError(
            f"The images take {size / GIB:.2f} GiB, but {device} has {free / GIB:.2f} GiB of free "
            "memory: leave resident at auto, or take a smaller train_size or image_size."
        )
    return True


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where no one says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration, ValueError):  # not on this system
        return None


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Rows ``[B]``, given on the host, of a tensor ``[N, …]`` on any device."""
    return values.index_select(0, moved(rows, values.device))


def moved(rows: Tensor, device: torch.device) -> Tensor:
    """Row numbers, or a mask, on a device; the host does not wait for a card to receive them."""
    if device.type == "cuda":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def checked_residence(residence: Residence) -> Residence:
    """``residence`` itself; SettingsError when it is none of the three."""
    if residence not in ("auto", True, False):
        raise SettingsError(f"resident is auto, true or false, not {residence!r}.")
    return residence
