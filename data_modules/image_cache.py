"""A cache of decoded images: one memory-mapped file of bytes, built once and reused.

The file's name holds a fingerprint of everything it depends on: the image files' names in their
order, sizes and times of change, what is made of them, and the version of this code. So a cache
fits or has another name; none is ever checked for being stale. Caches under other fingerprints are
left alone, since another experiment may use them: the whole folder may be deleted at any time.

A cache is written under a temporary name and renamed when it is whole. Processes that build the
same one at once each write their own file, and the last rename wins, with equal bytes.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import IO
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from data_modules.decoding import ImageFormat, decode
from data_modules.tables import DataError

__all__ = ["CachedImages", "open_cache"]

VERSION = 1  # of the decoding and the file: a new one makes every old cache unused
CHUNK = 256  # images decoded between two writes
# A build writes every few seconds, so a temporary file this old (in seconds) was left by a crash.
ABANDONED = 3600.0


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
    root: Path,
    files: Sequence[str],
    origin: Sequence[str],
    form: ImageFormat,
    folder: Path,
) -> CachedImages:
    """The cache of some images, built first (with a progress bar) where there is none.

    Args:
        root: folder that ``files`` are relative to.
        files: N image files, in the order of the cache's rows.
        origin: the table row that names each file, for error messages.
        form: what to make of every image.
        folder: where caches lie; made when it is absent.

    Returns:
        The images, ``[N, C, S, S]``.

    Raises:
        DataError: naming file and row, for an image that is missing, empty or unreadable, or when
            the folder cannot be written to.
    """
    shape = (len(files), form.channels, form.size, form.size)
    name = f"images-{form.size}px-{_fingerprint(root, files, origin, form)}.npy"
    if not _is_whole(folder / name, shape):
        try:
            _build(root, files, origin, form, folder / name)
        except OSError as error:
            raise DataError(
                f"The image cache cannot be written to {folder} ({error.strerror or error}): name "
                "another folder as cache_dir."
            ) from None
    return CachedImages(folder / name, shape)


def _fingerprint(root: Path, files: Sequence[str], origin: Sequence[str], form: ImageFormat) -> str:
    digest = hashlib.sha256(repr((VERSION, astuple(form))).encode())
    for file, row in zip(files, origin, strict=True):
        problem = None
        try:
            status = os.stat(root / file)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            missing = isinstance(error, FileNotFoundError)
            problem = "does not exist" if missing else f"cannot be opened ({error})"
        else:
            problem = None if status.st_size else "is empty (0 bytes)"
        if problem:
            raise DataError(
                f"Image {root / file} ({row}) {problem}: put the picture there, or drop its row."
            )
        digest.update(repr((file, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:20]


def _is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether the file holds all its images: someone may have copied only part of it."""
    try:
        images = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # absent, or cut short
        return False
    return images.shape == shape and images.dtype == np.uint8


def _build(
    root: Path, files: Sequence[str], origin: Sequence[str], form: ImageFormat, target: Path
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    temporary = target.with_name(f"{target.stem}-{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            _write(stream, root, files, origin, form)
            # The bytes must reach the disk before the name that vouches for them.
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write(
    stream: IO[bytes],
    root: Path,
    files: Sequence[str],
    origin: Sequence[str],
    form: ImageFormat,
) -> None:
    """Header and images. Plain writes: on a full disk they fail, where a map would crash."""
    shape = (len(files), form.channels, form.size, form.size)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    bar = tqdm(total=len(files), desc=f"Image cache, {form.size} px", unit=" images")
    with bar, warnings.catch_warnings():
        # Pillow warns of large pictures; `decode` refuses them at its own limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for chunk in _decoded(root, files, origin, form):
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


def _remove_abandoned(folder: Path) -> None:
    """Delete temporary files that a killed build left."""
    for file in folder.glob("images-*px-*.tmp"):
        try:
            if time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()
        except OSError:  # another process was faster, or it belongs to someone else
            continue
