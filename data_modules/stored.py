"""Data modules whose images lie in files: decoded once into a cache, then read from it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Generator, Tensor

from data_modules.base import FactorImageDataModule, Loaded
from data_modules.decoding import ImageFormat
from data_modules.image_cache import open_cache
from data_modules.scenes.base import Scene
from data_modules.tables import DataError
from diffcf.graph import CausalGraph, GraphError

__all__ = ["ImageTable", "StoredImageDataModule", "as_graph"]


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
    node) or, in plain Python, by :meth:`setup`; see :mod:`data_modules.image_cache`. Nodes that
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
