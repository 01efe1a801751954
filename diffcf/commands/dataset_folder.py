"""A folder of images with their factors, in the layout of ``diffcf export``.

``images/*.png``, ``factors.csv`` (a row per image, native units; a missing label is an empty cell)
and ``graph.yaml``: what :class:`data_modules.FactorTableDataModule` reads.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from math import isnan
from pathlib import Path
from typing import Any

from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.reporting import save_image

IMAGES, TABLE = "images", "factors.csv"


class DatasetFolder:
    """Adds images, with their rows; made by :func:`dataset_folder`.

    Attributes:
        count: how many images there are.
    """

    def __init__(self, folder: Path, graph: CausalGraph, table: Any) -> None:
        self.folder, self.graph, self.table, self.count = folder, graph, table, 0

    def add(
        self, image: Tensor, factors: Tensor, cells: Sequence[str] = (), below: str = ""
    ) -> str:
        """An image ``[C, S, S]`` in [-1, 1] with factors ``[K]`` in [0, 1] units; its name.

        ``cells`` are those of the further columns; ``below`` is a folder in that of the images.
        """
        name = (Path(below) / f"{self.count:06d}.png").as_posix()
        file = self.folder / IMAGES / name
        file.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, file)
        values = zip(self.graph.factors, factors.tolist(), strict=True)
        self.table.writerow([name, *cells, *(_native(factor, value) for factor, value in values)])
        self.count += 1
        return name


@contextmanager
def dataset_folder(
    folder: Path, graph: CausalGraph, columns: Sequence[str] = ()
) -> Iterator[DatasetFolder]:
    """To fill an empty ``folder``; ``columns`` stand between ``image`` and the factors."""
    (folder / IMAGES).mkdir()
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *columns, *graph.names])
        yield DatasetFolder(folder, graph, table)
    write_graph(graph, folder)


def set_cell(graph: CausalGraph, mask: Tensor) -> str:
    """The cell of a column ``intervened``: the factors that ``mask`` ``[K]`` (bool) marks."""
    return ";".join(compress(graph.names, mask.tolist()))


def write_graph(graph: CausalGraph, folder: Path) -> None:
    """Write ``graph.yaml`` into the folder of a dataset."""
    (folder / "graph.yaml").write_text(graph.to_yaml(), encoding="utf-8")


def _native(factor: Factor, scaled: float) -> str:
    """In native units; of a missing label, NaN, an empty cell."""
    if isnan(scaled):
        return ""
    if factor.kind != "continuous":
        return factor.text(scaled)
    # Rounding in float32 must not leave the range.
    value = factor.to_native(min(max(scaled, 0.0), 1.0))
    return repr(min(max(value, factor.low), factor.high))
