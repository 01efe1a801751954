"""The image cache: files decoded once into one array file, of which batches are read."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from diffcf.io import DataError, ImageTransform, UnusableImage, checked_file, decode, whole_file

VERSION = 1  # of the decoding and the file: a new one makes every old cache unused
CHUNK = 256  # images decoded between two writes
DARK = 31  # of 255: what 13 bits reach in a file of 16


class CachedImages:
    """Images ``[N, C, S, S]`` in a cache file; indexing reads them.

    Every read maps the file anew and copies its rows, so memory never holds more than a batch
    (pages of a lasting map would add up to the whole file), worker processes share nothing, and
    pickling carries the path alone.
    """

    dtype = torch.uint8

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        self.file, self.shape = file, torch.Size(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images ``[B, C, S, S]`` uint8 of the rows ``[B]`` int64; IndexError beyond the last."""
        return stored_rows(self.file, rows)


def open_cache(
    root: Path, files: Sequence[str], origin: Sequence[str], transform: ImageTransform, folder: Path
) -> CachedImages:
    """The cache in ``folder`` of the images ``files``, relative to ``root``, in that order.

    It is built first (with a progress bar) where there is none. ``origin`` is the table row that
    names each file, for error messages.

    Raises:
        DataError: naming file and row, for an image that is missing, empty or unreadable.
        OutputError: when the folder cannot be written to.
    """
    shape = (len(files), transform.channels, transform.size, transform.size)
    name = f"images-{transform.size}px-{_fingerprint(root, files, origin, transform)}.npy"
    file = folder / name
    if not is_whole(file, shape, np.uint8):
        chunks = _decoded(root, files, origin, transform)
        with whole_file(file, shared=True, remedy="name another folder as cache_dir") as unfinished:
            _write(unfinished, shape, chunks)
    return CachedImages(file, shape)


def _fingerprint(
    root: Path, files: Sequence[str], origin: Sequence[str], transform: ImageTransform
) -> str:
    """A hash of names, sizes and times of the files and of every setting of the transform."""
    digest = hashlib.sha256(repr((VERSION, asdict(transform))).encode())
    for file, row in zip(files, origin, strict=True):
        try:
            status = checked_file(root / file)
        except UnusableImage as error:
            remedy = "put the picture there, or drop its row"
            raise DataError(f"Image {root / file} ({row}) {error.problem}: {remedy}.") from None
        digest.update(repr((file, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:20]


def stored_rows(file: Path, rows: Tensor) -> Tensor:
    """A copy of the rows ``[B]`` of an array file, which is mapped for this read alone."""
    return torch.from_numpy(np.load(file, mmap_mode="r")[rows.numpy()])


def is_whole(file: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> bool:
    """Whether an array file holds all it should: someone may have copied only part of it."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # absent, or cut short
        return False
    return bool(array.shape == shape and array.dtype == dtype)


def _write(file: Path, shape: tuple[int, ...], chunks: Iterator[np.ndarray]) -> None:
    """Header and images. Plain writes: on a full disk they fail, where a map would crash."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    megabytes = max(math.prod(shape) / 1e6, 0.1)
    title = f"Image cache, {shape[-1]} px, {megabytes:,.1f} MB"
    bar = tqdm(total=shape[0], desc=title, unit=" images")
    brightest = 0
    with file.open("xb") as stream, bar, warnings.catch_warnings():
        np.lib.format.write_array_header_1_0(stream, header)
        # Pillow warns of large pictures; `decode` refuses them at its own limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for chunk in chunks:
            stream.write(chunk.tobytes())
            bar.update(len(chunk))
            brightest = max(brightest, int(chunk.max()))
    if brightest <= DARK:
        rank_zero_warn(
            f"All images are nearly black: no pixel is above {brightest} of 255. If the files hold "
            "12 bits or less in 16, state value_range, such as [0, 4095]."
        )


def _decoded(
    root: Path, files: Sequence[str], origin: Sequence[str], transform: ImageTransform
) -> Iterator[np.ndarray]:
    """All images in order, ``[CHUNK, C, S, S]`` at a time."""
    # Threads suffice: Pillow decodes and resizes without holding Python's lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for start in range(0, len(files), CHUNK):
            chunk = slice(start, start + CHUNK)
            paths = [root / file for file in files[chunk]]
            yield np.stack(list(pool.map(decode, paths, repeat(transform), origin[chunk])))
