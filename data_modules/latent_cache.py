"""The latent cache: what a first stage makes of the training images, computed once.

It lies beside the image cache, named after the images and the first stage, so that other images,
another crop or other weights make another. Data without a folder of their own keep theirs in
memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_modules.image_cache import is_whole, stored_rows
from data_modules.loading import Batch, BatchDataset, FactorImages
from diffcf.io import whole_file

Encode = Callable[[Tensor], Tensor]
"""Images ``[B, C, H, W]`` in [-1, 1] → latents ``[B, L, h, w]``."""
VERSION = 1
CHUNK = 64  # images encoded at once
MEASURED = 4096  # latents of which mean and spread are taken, at most


class LatentFactors(BatchDataset):
    """Training latents with their factors: items as of ``split``, mirrored ones among them.

    Latents ``[N, L, h, w]`` in half precision are an array, or the file of one.
    """

    def __init__(self, split: FactorImages, latents: Path | Tensor) -> None:
        self.split, self.latents = split, latents

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, items: list[int]) -> Batch:
        place, _ = self.split.places(items)
        labels = self.split.labels(self.split.index[place])
        return {"latent": self.rows(torch.as_tensor(items)), "index": place, **labels}

    def rows(self, items: Tensor) -> Tensor:
        """Latents ``[B, L, h, w]`` in float32."""
        if isinstance(self.latents, Tensor):
            return self.latents[items].float()
        return stored_rows(self.latents, items).float()

    def sample(self) -> Iterator[Tensor]:
        """Some thousand latents spread evenly over all, in parts."""
        rows = torch.linspace(0, len(self) - 1, min(len(self), MEASURED)).round().long()
        return (self.rows(part) for part in rows.split(CHUNK))


def latent_factors(
    split: FactorImages, encode: Encode, digest: str, folder: Path | None, images: str | None
) -> LatentFactors:
    """The latents of a split; encoded first, with a progress bar, where there are none yet.

    ``digest`` stands for the first stage, ``images`` for the images; without ``folder`` and
    ``images`` latents stay in memory.

    Raises:
        OutputError: when the folder cannot be written to.
    """
    if folder is None or images is None:
        parts = [part.half() for part in _encoded(split, encode)]
        return LatentFactors(split, torch.cat(parts))
    rows = hashlib.sha256(split.index.numpy().tobytes()).hexdigest()[:12]
    mirrored = "-mirrored" if split.mirrored else ""
    file = folder / f"latents-{VERSION}-{digest[:12]}-{images}-{rows}{mirrored}.npy"
    shape = (len(split), *encode(split.__getitems__([0])["image"]).shape[1:])
    if not is_whole(file, shape, np.float16):
        remedy = "name another folder as cache_dir"
        with whole_file(file, shared=True, remedy=remedy) as unfinished:
            _write(unfinished, shape, _encoded(split, encode))
    return LatentFactors(split, file)


def _encoded(split: FactorImages, encode: Encode) -> Iterator[Tensor]:
    bar = tqdm(total=len(split), desc="Latents", unit=" images")
    with bar, torch.no_grad():
        for start in range(0, len(split), CHUNK):
            items = list(range(start, min(start + CHUNK, len(split))))
            yield encode(split.__getitems__(items)["image"]).cpu()
            bar.update(len(items))


def _write(file: Path, shape: tuple[int, ...], parts: Iterator[Tensor]) -> None:
    """Header and latents, by plain writes: on a full disk they fail, where a map would crash."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with file.open("xb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(part.numpy().astype("<f2").tobytes())
