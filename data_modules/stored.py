"""Data modules whose images lie in files: decoded once into a cache, then read from it."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from tqdm import tqdm

from data_modules.base import FactorImageDataModule, Loaded
from diffcf.causal import CausalGraph, Scene
from diffcf.io import DataError, GraphError, ImageFormat, decode


@dataclass(frozen=True)
class ImageTable:
    """Which image files there are, and what is known of them.

    Attributes:
        root: folder of the images.
        files: N paths relative to ``root``.
        factors: ``[N, K]`` in [0, 1] units.
        origin: where each image is named, such as ``factors.csv row 17``, for error messages.
        split: rows of ``"train"``, ``"val"`` and ``"test"``, int64.
        noise: ``[N, M]``, what the scene's pictures show beyond their factors; None where there is
            no scene, or nobody wrote it down.
    """

    root: Path
    files: list[str]
    factors: Tensor
    origin: list[str]
    split: dict[str, Tensor]
    noise: Tensor | None = None


class StoredImageDataModule(FactorImageDataModule):
    """A data module over image files; a subclass says which, in :meth:`table`.

    The images are decoded once, by :meth:`prepare_data` (Lightning calls it in one process of each
    node) or, in plain Python, by :meth:`setup`; see :mod:`data_modules.stored`. Nodes that
    share a file system would each build the same cache: harmless, but to spare the work set
    ``prepare_data_per_node`` of the module to False.

    Args:
        graph: see :class:`FactorImageDataModule`.
        scene: the synthetic world that drew the images, to measure by; None where there is none.
        image_size: side S of the square images in pixels.
        crop: side of the central square of a file that is kept, in its pixels; None keeps the
            largest.
        channels: 3 for colour, 1 for grey.
        cache_dir: folder of the cache; None for ``.diffcf_cache`` in the folder of the images.
        common: see :class:`FactorImageDataModule`.

    Raises:
        GraphError: when the scene has other factors than the graph.
        ValueError: for an argument outside its range, or a size that the scene does not draw.
    """

    def __init__(
        self,
        graph: CausalGraph,
        scene: Scene | None,
        image_size: int = 64,
        crop: int | None = None,
        channels: int = 3,
        cache_dir: str | Path | None = None,
        **common: Any,
    ) -> None:
        super().__init__(graph, scene, **common)
        if scene is not None:
            scene.checked_size(image_size)
            if scene.graph.factors != graph.factors:
                raise GraphError(
                    f"The scene has the factors {', '.join(scene.graph.names)}, which differ from "
                    f"the graph's, {', '.join(graph.names)}, by name, order, kind or range: make "
                    "them the same."
                )
        self.form = ImageFormat(image_size, crop, channels)
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    @abstractmethod
    def table(self, generator: Generator) -> ImageTable:
        """Read what there is; DataError where it is wrong. ``generator`` is for random splits."""

    def prepare_data(self) -> None:
        """Check the tables and build the cache, so that mistakes show before training."""
        self._loaded(Generator().manual_seed(self.seed))

    def load(self, generator: Generator) -> Loaded:
        return self._loaded(generator)

    def _loaded(self, generator: Generator) -> Loaded:
        table = self.table(generator)
        for stage, rows in table.split.items():
            if not len(rows):
                raise DataError(f"{table.root} has no images for '{stage}': give it some.")
        folder = self.cache_dir or table.root / ".diffcf_cache"
        images = open_cache(table.root, table.files, table.origin, self.form, folder)
        return Loaded(images, table.factors, table.split, table.noise)


def as_graph(graph: str | Path | CausalGraph) -> CausalGraph:
    """A graph itself, or that of a YAML file; GraphError when the file is wrong."""
    return graph if isinstance(graph, CausalGraph) else CausalGraph.from_yaml(graph)


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
