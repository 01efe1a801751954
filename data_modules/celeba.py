"""CelebA: 202,599 faces with 40 binary attributes (Liu et al., Deep Learning Face Attributes in
the Wild, ICCV 2015), from its standard folder and with its official partition.

Nothing is downloaded: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html has the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.columns import column_split, factor_tensor, number_tensor
from data_modules.stored import ImageTable, StoredImageDataModule, as_graph
from diffcf.causal import CausalGraph, Scene
from diffcf.io import DataError, GraphError, Table, collected, image_names, read_table, read_text

IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba"
PARTITION = "list_eval_partition"
NOISE = "scene_noise.csv"  # of a synthetic world
IMAGE = "image_id"  # as the CSV variants name it
NOT = "not "


class CelebADataModule(StoredImageDataModule):
    """Faces with some of their attributes as the factors of a causal graph, all of them binary.

    ``root`` holds the folder ``img_align_celeba`` (which may lie in another of that name, as some
    archives have it), and ``list_attr_celeba`` and ``list_eval_partition``, each as ``.txt`` of
    the original or ``.csv``. The attribute table may be cut to part of the images. Where a scene
    drew them, ``scene_noise.csv`` may have its image noise in columns named like its
    ``noise_names``: exact counterfactual images need it.

    Args:
        root: the folder.
        graph: the causal graph, or its YAML file, such as ``experiments/graphs/celeba_smile.yaml``.
        attributes: for factors not named like an attribute, the attribute; "not " before it reads
            its opposite, as in ``{"Beard": "not No_Beard"}``.
        crop: see ``common``; the files have 178 × 218 pixels.
        scene: the synthetic world behind a folder that only has CelebA's layout; None for CelebA.
        common: see :class:`data_modules.stored.StoredImageDataModule`.

    Raises:
        GraphError: when a factor is not binary, or ``attributes`` names an unknown factor.
    """

    def __init__(
        self,
        root: str | Path,
        graph: str | Path | CausalGraph,
        attributes: dict[str, str] | None = None,
        crop: int | None = 148,
        scene: Scene | None = None,
        **common: Any,
    ) -> None:
        super().__init__(as_graph(graph), scene, crop=crop, **common)
        self.root = Path(root)
        self.attributes = _attributes(self.graph, attributes or {})

    def table(self, generator: Generator) -> ImageTable:
        if self.scene is not None and not self.root.exists():
            raise DataError(
                f"Folder {self.root} of drawn faces does not exist: make it by 'diffcf faces "
                f"{self.root}', or name another."
            )
        folder, attribute_file, partition_file = standard_files(self.root)
        wanted = {attribute.removeprefix(NOT) for attribute in self.attributes.values()}
        attributes = read_attributes(attribute_file, sorted(wanted))
        names = image_names(attributes, IMAGE)
        partition = _in_order_of(names, attributes, read_partition(partition_file))
        split = column_split(partition, "partition", None, generator)
        files = [f"{folder}/{name}" for name in names]
        origin = [attributes.origin(place) for place in range(len(attributes))]
        noise = self._image_noise(names, attributes)
        return ImageTable(self.root, files, self._factors(attributes), origin, split, noise)

    def _factors(self, table: Table) -> Tensor:
        columns = {name: text.removeprefix(NOT) for name, text in self.attributes.items()}
        factors = factor_tensor(table, self.graph.factors, columns)
        negated = torch.tensor([text.startswith(NOT) for text in self.attributes.values()])
        return torch.where(negated, 1 - factors, factors)

    def _image_noise(self, names: list[str], attributes: Table) -> Tensor | None:
        file = self.root / NOISE
        if self.scene is None or not file.is_file():
            return None
        shown = self.scene.noise_names
        table = read_table(file, [IMAGE, *shown])
        return number_tensor(_in_order_of(names, attributes, table), shown)


def _attributes(graph: CausalGraph, renamed: Mapping[str, str]) -> dict[str, str]:
    """The attribute of every factor, "not " before it where it is negated."""
    for name in renamed:
        graph.column(name)
    for factor in graph.factors:
        if factor.kind != "binary":
            raise GraphError(
                f"Factor '{factor.name}' is {factor.kind}, but the attributes of CelebA are "
                "binary: make its kind 'binary'."
            )
    return {name: renamed.get(name, name) for name in graph.names}


def standard_files(root: Path) -> tuple[str, Path, Path]:
    """Image folder relative to ``root``, attribute table and partition table.

    Raises:
        DataError: saying what is missing and where to put it.
    """
    nested = f"{IMAGES}/{IMAGES}"
    folder = nested if (root / nested).is_dir() else IMAGES
    tables, missing = [], []
    if not (root / folder).is_dir():
        missing.append(f"the folder {root / IMAGES} with 000001.jpg and so on")
    for name in (ATTRIBUTES, PARTITION):
        found = [root / f"{name}{end}" for end in (".txt", ".csv")]
        tables.append(next((file for file in found if file.is_file()), None))
        if tables[-1] is None:
            missing.append(f"the file {root / name}.txt (or .csv)")
    attributes, partition = tables
    if missing or attributes is None or partition is None:
        raise DataError(
            f"CelebA needs {', '.join(missing)}: get them from "
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put them there; they are never "
            "downloaded for you."
        )
    return folder, attributes, partition


def read_attributes(file: Path, attributes: list[str]) -> Table:
    """Columns ``image_id`` and ``attributes``, from the CSV or from the original text file.

    The latter has the number of images in its first line, the attributes' names in its second, and
    then a name and 1 or -1 for each attribute, parted by blanks.

    Raises:
        DataError: as :func:`diffcf.io.tables.read_table`, and when the number is another.
    """
    if file.suffix == ".csv":
        return read_table(file, [IMAGE, *attributes])
    lines = _lines(file)
    _, count = next(lines, (1, []))
    _, names = next(lines, (2, []))
    if len(count) != 1 or not count[0].isdecimal() or not names:
        raise DataError(
            f"Table {file} row 1 should give the number of images alone, and row 2 the attributes: "
            "take the original file."
        )
    for name in attributes:
        if name not in names:
            raise DataError(f"Table {file} has no attribute '{name}': it has {', '.join(names)}.")
    table = _table(file, [IMAGE, *names], [IMAGE, *attributes], lines)
    if int(count[0]) != len(table):
        raise DataError(
            f"Table {file} row 1 says {count[0]} images, but {len(table)} rows follow: "
            "the file is not whole."
        )
    return table


def read_partition(file: Path) -> Table:
    """Columns ``image_id`` and ``partition`` (0 train, 1 val, 2 test)."""
    columns = [IMAGE, "partition"]
    if file.suffix == ".csv":
        return read_table(file, columns)
    return _table(file, columns, columns, _lines(file))


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and words of every line that is not blank."""
    for row, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            yield row, line.split()


def _table(
    file: Path, header: list[str], columns: list[str], lines: Iterator[tuple[int, list[str]]]
) -> Table:
    """The wanted columns of lines that have a word for each name of ``header``."""
    uneven = f"words where {len(header)} are due: the file is not whole"
    table = collected(file, header, columns, lines, uneven)
    if not len(table):
        raise DataError(f"Table {file} has no rows: take the original file.")
    return table


def _in_order_of(names: list[str], table: Table, other: Table) -> Table:
    """The other table's rows in the order of ``names``, the images of ``table``."""
    place_of = {name: place for place, name in enumerate(image_names(other, IMAGE))}
    places = []
    for place, name in enumerate(names):
        if name not in place_of:
            raise table.error(place, IMAGE, f"{name!r} has no row in {other.file}: add it.")
        places.append(place_of[name])
    values = {name: [column[p] for p in places] for name, column in other.columns.items()}
    return Table(other.file, values, [other.rows[p] for p in places])
