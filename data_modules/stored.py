"""Data modules whose images lie in files: decoded once into a cache, then read from it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Generator, Tensor

from data_modules.base import FactorImageDataModule, carve, fraction
from data_modules.image_cache import CachedImages, open_cache
from data_modules.labels import check_labels
from data_modules.loading import Loaded
from data_modules.scenes.style import StyledScene
from diffcf.causal import CausalGraph, Scene
from diffcf.io import DataError, GraphError, ImageTransform, Table, cut_table, resolve_names


@dataclass(frozen=True)
class ImageTable:
    """Which image files there are, and what is known of them.

    Attributes:
        root: folder of the images.
        files: N paths relative to ``root``; see :func:`diffcf.io.resolve_names` for inexact ones.
        factors: ``[N, K]`` in [0, 1] units, NaN where a label is missing.
        origin: where each image is named, such as ``factors.csv row 17``, for error messages.
        split: rows of ``"train"``, ``"val"`` and ``"test"``, int64.
        noise: see :class:`data_modules.base.Loaded`; None where it was not recorded, too.
        source: the table that names the files; None where none does.
        intervened: see :class:`data_modules.base.Loaded`.
    """

    root: Path
    files: list[str]
    factors: Tensor
    origin: list[str]
    split: dict[str, Tensor]
    noise: Tensor | None = None
    source: Table | None = None
    intervened: Tensor | None = None


class StoredImageDataModule(FactorImageDataModule):
    """A data module over image files; a subclass says which, in :meth:`table`.

    The images are decoded once, by :meth:`prepare_data` (Lightning calls it in one process of each
    node) or, in plain Python, by :meth:`setup`; see :mod:`data_modules.image_cache`. Where nodes
    share a file system, ``prepare_data_per_node = False`` spares all but one of them the work.

    Args:
        graph, scene, common: see :class:`FactorImageDataModule`.
        image_size: side S of the square images in pixels.
        crop, channels, fit, resample, value_range, ground: how a file becomes an image, see
            :class:`diffcf.io.ImageTransform`. Weights record it.
        cache_dir: folder of the cache; None for ``.diffcf_cache`` in the folder of the images.
        mirror: whether training sees every image a second time, its left on the right: for images
            whose factors know neither. An epoch then has twice as many images.

    Raises:
        GraphError: when the scene has other factors than the graph.
        ValueError: for an argument outside its range, or a size that the scene does not draw.
    """

    scene: Scene | None
    transform: ImageTransform

    def __init__(
        self,
        graph: CausalGraph,
        scene: Scene | None,
        image_size: int = 64,
        crop: int | None = None,
        channels: int = 3,
        cache_dir: str | Path | None = None,
        fit: Literal["crop", "letterbox"] = "crop",
        resample: Literal["bilinear", "box", "bicubic", "lanczos"] = "bilinear",
        value_range: tuple[float, float] | None = None,
        ground: int = 255,
        mirror: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(graph, scene, **common)
        self.mirror = mirror
        if scene is not None:
            scene.checked_size(image_size)
            if scene.graph.factors != graph.factors:
                raise GraphError(
                    f"The scene has the factors {', '.join(scene.graph.names)}, which differ from "
                    f"the graph's, {', '.join(graph.names)}, by name, order, kind or range: make "
                    "them the same."
                )
        self.transform = ImageTransform(
            image_size, crop, channels, fit, resample, value_range, ground
        )
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    @abstractmethod
    def table(self, generator: Generator) -> ImageTable:
        """The images; DataError where a file is wrong. ``generator`` is for random splits."""

    def prepare_data(self) -> None:
        """Check the tables and build the cache, so that mistakes show before training."""
        self.load(Generator().manual_seed(self.seed))

    def load(self, generator: Generator) -> Loaded:
        table = self._resolved(generator)
        _check_present(table)
        for stage, rows in table.split.items():
            if not len(rows):
                raise DataError(f"{table.root} has no images for '{stage}': give it some.")
        check_labels(self.graph, table.factors, table.split, table.origin)
        folder = self.cache_dir or table.root / ".diffcf_cache"
        images = open_cache(table.root, table.files, table.origin, self.transform, folder)
        return Loaded(images, table.factors, table.split, table.noise, table.intervened)

    @property
    def latent_cache(self) -> tuple[Path | None, str | None]:
        images = self._split["train"].images
        if not isinstance(images, CachedImages):
            return None, None
        return images.file.parent, images.file.stem

    def _resolved(self, generator: Generator) -> ImageTable:
        """The images, each named as its file is."""
        table = self.table(generator)
        return replace(table, files=resolve_names(table.root, table.files, table.origin))

    def cut_table(self, out: Path) -> int:
        """Write the rows of the table whose images exist to ``out``; returns how many they are.

        Raises:
            DataError: where no table names the images, none of them exists, or ``out`` has another
                ending than the table.
            OutputError: when ``out`` exists already.
        """
        table = self._resolved(Generator().manual_seed(self.seed))
        if table.source is None:
            raise DataError(f"No table names the images of {table.root}: there is none to cut.")
        missing = set(_missing(table))
        present = [place for place in range(len(table.files)) if place not in missing]
        if not present:
            raise DataError(_absence(table, list(missing)))
        cut_table(table.source, present, out)
        return len(present)


def _missing(table: ImageTable) -> list[int]:
    """Places of the files that do not exist; every folder is listed once."""
    listed: dict[str, set[str]] = {}

    def exists(file: str) -> bool:
        folder, name = os.path.split(file)
        if folder not in listed:
            path = table.root / folder
            listed[folder] = set(os.listdir(path)) if path.is_dir() else set()
        return name in listed[folder]

    return [place for place, file in enumerate(table.files) if not exists(file)]


def _check_present(table: ImageTable) -> None:
    """DataError where several files are missing; one alone is named as the cache is built."""
    missing = _missing(table)
    if table.source is not None and len(missing) > 1:
        raise DataError(_absence(table, missing))


def _absence(table: ImageTable, missing: Sequence[int]) -> str:
    """The sentence for files that a table names and no one has."""
    first, count = min(missing), len(table.files)
    source = "the table" if table.source is None else table.source.file
    if len(missing) == count:
        return (
            f"None of the {count:,} images that {source} names exists, such as "
            f"{table.root / table.files[first]} ({table.origin[first]}): check the folder."
        )
    return (
        f"{len(missing):,} of {count:,} images that {source} names do not exist, the first being "
        f"{table.root / table.files[first]} ({table.origin[first]}): put them there, or cut the "
        "table to the others by diffcf data <config> --cut <new table>."
    )


def as_graph(graph: str | Path | CausalGraph) -> CausalGraph:
    """A graph itself, or that of a YAML file; GraphError when the file is wrong."""
    return graph if isinstance(graph, CausalGraph) else CausalGraph.from_yaml(graph)


class PublishedImagesDataModule(StoredImageDataModule):
    """The published CausalVAE images of a scene: PNG folders ``train`` and ``test``.

    Files are named ``a_1_2_3_4.png``, where the numbers are factors cut to whole numbers. Which row
    of the published grid a file shows is found by cutting the grid's own factors in the same way,
    so that the factors are exact wherever a name still identifies them. The publishing script
    writes in the order of the grid; where two renders of one folder share a name, the later has
    overwritten the earlier. A folder may hold part of the published images. :meth:`setup` warns of
    what file names and pictures have lost.

    Args:
        root: folder that holds ``train/a_*.png`` and ``test/a_*.png``.
        image_size: side of the images in pixels, one that the scene draws; published are 96.
        val_fraction: part of the training images that is held out, in (0, 1).
        common: see :class:`StoredImageDataModule`.
    """

    title: str
    lost: str
    scene_class: type[StyledScene]

    def __init__(
        self, root: str | Path, image_size: int = 96, val_fraction: float = 0.1, **common: Any
    ) -> None:
        # The image reader scales by the same filter.
        scene = self.scene_class("published_bilinear")
        # By name: of arguments by place, jsonargparse takes as many from the command line.
        super().__init__(scene.graph, scene, image_size=image_size, crop=None, channels=3, **common)
        self.root, self.val_fraction = Path(root), fraction("val_fraction", val_fraction)

    @abstractmethod
    def published(self) -> tuple[Tensor, list[str], Tensor]:
        """Native factors ``[N, K]`` (float64), file names, and which are for test, ``[N]``."""

    def setup(self, stage: str | None = None) -> None:
        if not self._split:
            rank_zero_warn(f"{self.title} of {self.root}: {self.lost}")
        super().setup(stage)

    def table(self, generator: Generator) -> ImageTable:
        factors, names, is_test = self.published()
        # A later row takes the place of an earlier one of the same name, as on the disk.
        row_of = {
            f"{'test' if test else 'train'}/{name}": row
            for row, (name, test) in enumerate(zip(names, is_test.tolist(), strict=True))
        }
        files = [*self._files("train"), *self._files("test")]
        if unknown := set(files) - set(row_of):
            raise DataError(
                f"Image {self.root / min(unknown)} has no name of the published {self.title} "
                "images: remove it, or check that train and test are the published folders."
            )
        files.sort(key=row_of.__getitem__)
        rows = torch.tensor([row_of[file] for file in files])
        tests = is_test[rows]
        train, val = carve((~tests).nonzero()[:, 0], self.val_fraction, generator)
        split = {"train": train, "val": val, "test": tests.nonzero()[:, 0]}
        scaled = self.graph.to_scaled(factors[rows]).float()
        return ImageTable(self.root, files, scaled, [f"{self.title} folder"] * len(files), split)

    def _files(self, stage: str) -> list[str]:
        files = [f"{stage}/{path.name}" for path in (self.root / stage).glob("*.png")]
        if len(files) < (2 if stage == "train" else 1):
            raise DataError(
                f"Folder {self.root / stage} holds {len(files)} PNG files, too few: put the "
                f"published {self.title} images a_*.png into {self.root}/train and "
                f"{self.root}/test; they are never downloaded."
            )
        return files


def published_names(numbers: Tensor) -> list[str]:
    """File names of ``[N, K]`` numbers, which are cut to whole ones."""
    return [f"a_{'_'.join(map(str, row))}.png" for row in numbers.trunc().long().tolist()]
