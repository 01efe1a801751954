"""The image cache: files decoded once into one array file, of which batches are read."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from diffcf.io import DataError, ImageFormat, UnusableImage, checked_file, decode, whole_file

VERSION = 1  # of the decoding and the file: a new one makes every old cache unused
CHUNK = 256  # images decoded between two writes


class CachedImages:
    """Images in a cache file; indexing reads them.

    Every read maps the file anew and copies its rows, so memory never holds more than a batch
    (pages of a lasting map would add up to the whole file), worker processes share nothing, and
    pickling carries the path alone.

    Args:
        file: the cache file.
        shape: ``(N, C, S, S)``.
    """

    dtype = torch.uint8

    def __init__(self, file: Path, shape: tuple[int, int, int, int]) -> None:
        self.file, self.shape = file, torch.Size(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images ``[B, C, S, S]`` uint8 of the rows ``[B]`` int64; IndexError beyond the last."""
        return torch.from_numpy(np.load(self.file, mmap_mode="r")[rows.numpy()])


def open_cache(
    root: Path, files: Sequence[str], origin: Sequence[str], form: ImageFormat, folder: Path
) -> CachedImages:
    """The cache of some images, built first (with a progress bar) where there is none.

    Args:
        root: folder that ``files`` are relative to.
        files: N image files, in the order of the cache's rows.
        origin: the table row that names each file, for error messages.
        form: size, crop and channels of every image.
        folder: where caches lie; made when it is absent.

    Returns:
        The images, ``[N, C, S, S]``.

    Raises:
        DataError: naming file and row, for an image that is missing, empty or unreadable.
        OutputError: when the folder cannot be written to.
    """
    shape = (len(files), form.channels, form.size, form.size)
    file = folder / f"images-{form.size}px-{_fingerprint(root, files, origin, form)}.npy"
    if not _is_whole(file, shape):
        remedy = "name another folder as cache_dir"
        with (
            whole_file(file, shared=True, remedy=remedy) as unfinished,
            unfinished.open("xb") as stream,
        ):
            _write(stream, shape, _decoded(root, files, origin, form))
    return CachedImages(file, shape)


def _fingerprint(root: Path, files: Sequence[str], origin: Sequence[str], form: ImageFormat) -> str:
    """A hash of names, sizes and times of the files and of the format."""
    digest = hashlib.sha256(repr((VERSION, astuple(form))).encode())
    for file, row in zip(files, origin, strict=True):
        try:
            status = checked_file(root / file)
        except UnusableImage as error:
            raise DataError(
                f"Image {root / file} ({row}) {error.problem}: put the picture there, or drop its "
                "row."
            ) from None
        digest.update(repr((file, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:20]


def _is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether the file holds all its images: someone may have copied only part of it."""
    try:
        images = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # absent, or cut short
        return False
    return images.shape == shape and images.dtype == np.uint8


def _write(stream: IO[bytes], shape: tuple[int, ...], chunks: Iterator[np.ndarray]) -> None:
    """Header and images. Plain writes: on a full disk they fail, where a map would crash."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    bar = tqdm(total=shape[0], desc=f"Image cache, {shape[-1]} px", unit=" images")
    with bar, warnings.catch_warnings():
        # Pillow warns of large pictures; `decode` refuses them at its own limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for chunk in chunks:
            stream.write(chunk.tobytes())
            bar.update(len(chunk))


def _decoded(
    root: Path, files: Sequence[str], origin: Sequence[str], form: ImageFormat
) -> Iterator[np.ndarray]:
    """All images in order, ``[CHUNK, C, S, S]`` at a time.

    Threads suffice: Pillow decodes and resizes without holding Python's lock.
    """

    def load(place: int) -> np.ndarray:
        return decode(root / files[place], form, origin[place])

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for start in range(0, len(files), CHUNK):
            places = range(start, min(start + CHUNK, len(files)))
            yield np.stack(list(pool.map(load, places)))
