"""CelebA: 202,599 faces with 40 binary attributes, and the official partition.

Source: Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from data_modules.columns import (
    INTERVENED,
    column_split,
    factor_tensor,
    intervened_tensor,
    number_tensor,
)
from data_modules.stored import ImageTable, StoredImageDataModule, as_graph
from diffcf.causal import CausalGraph, Scene
from diffcf.io import (
    DataError,
    GraphError,
    Table,
    image_names,
    read_table,
    read_text,
    select_columns,
)

IMAGES = "img_align_celeba"
PNG_IMAGES = "img_align_celeba_png"  # the other archive's; tables say .jpg there too
NOISE = "scene_noise.csv"  # of a synthetic world
IMAGE = "image_id"  # as the CSV variants name it
NOT = "not "


class CelebADataModule(StoredImageDataModule):
    """Faces with some of their attributes as the factors of a causal graph, all of them binary.

    ``root`` holds the folder ``img_align_celeba`` (which may lie in another of that name, as some
    archives have it) or ``img_align_celeba_png``, and ``list_attr_celeba`` and
    ``list_eval_partition``, each as the original ``.txt`` or as ``.csv``. The attribute table may
    be cut to part of the images; as ``.csv`` it may have empty cells, which are missing labels of
    training images, and a column ``intervened`` as that of
    :class:`data_modules.FactorTableDataModule`. Where a scene drew them, ``scene_noise.csv`` may
    have its image noise in columns named like its ``noise_names``: exact counterfactual images
    need it.

    Args:
        root: the folder.
        graph: the causal graph, or its YAML file, such as ``experiments/graphs/celeba_smile.yaml``.
        attributes: for factors not named like an attribute, the attribute; "not " before it reads
            its opposite, as in ``{"Beard": "not No_Beard"}``.
        table: the attribute table, where it is not in ``root``: one cut to part of the images.
        crop: see ``common``; the files have 178 × 218 pixels. None for ``fit: letterbox``.
        scene: the synthetic world behind a folder that only has CelebA's layout; None for CelebA.
        common: see :class:`data_modules.stored.StoredImageDataModule`.

    Raises:
        GraphError: when a factor is not binary, or ``attributes`` names an unknown factor.
    """

    def __init__(
        self,
        root: str | Path,
        graph: CausalGraph | str | Path,
        attributes: dict[str, str] | None = None,
        crop: int | None = 148,
        scene: Scene | None = None,
        table: str | Path | None = None,
        **common: Any,
    ) -> None:
        super().__init__(as_graph(graph), scene, crop=crop, **common)
        self.root, self.file = Path(root), None if table is None else Path(table)
        renamed = attributes or {}
        for name in renamed:
            self.graph.column(name)  # GraphError for an unknown factor
        for factor in self.graph.factors:
            if factor.kind != "binary":
                raise GraphError(
                    f"Factor '{factor.name}' is {factor.kind}, but the attributes of CelebA are "
                    "binary: make its kind 'binary'."
                )
        self.attributes = {name: renamed.get(name, name) for name in self.graph.names}

    def table(self, generator: Generator) -> ImageTable:
        if self.scene is not None and not self.root.exists():
            raise DataError(
                f"Folder {self.root} of drawn faces does not exist: make it by 'diffcf faces "
                f"{self.root}', or name another."
            )
        folder, attribute_file, partition_file = _standard_files(self.root)
        attribute_file = self.file or attribute_file
        columns = {name: text.removeprefix(NOT) for name, text in self.attributes.items()}
        wanted = sorted(set(columns.values()))
        attributes = _read(attribute_file, wanted, counted=True, optional=[INTERVENED])
        names = image_names(attributes, IMAGE, self.root / folder)
        partitions = _read(partition_file, ["partition"], counted=False)
        partition = _in_order_of(names, attributes, partitions, self.root / folder)
        split = column_split(partition, "partition", None, generator)
        factors = factor_tensor(attributes, self.graph.factors, columns, partial=True)
        negated = torch.tensor([text.startswith(NOT) for text in self.attributes.values()])
        factors = torch.where(negated, 1 - factors, factors)
        noise = None
        if self.scene is not None and self.scene.noise_names and (self.root / NOISE).is_file():
            table = read_table(self.root / NOISE, [IMAGE, *self.scene.noise_names])
            noise = number_tensor(
                _in_order_of(names, attributes, table, self.root / folder), self.scene.noise_names
            )
        files = [f"{folder}/{name}" for name in names]
        origin = [attributes.origin(place) for place in range(len(attributes))]
        intervened = intervened_tensor(attributes, INTERVENED, self.graph)
        return ImageTable(self.root, files, factors, origin, split, noise, attributes, intervened)


def _standard_files(root: Path) -> tuple[str, Path, Path]:
    """Image folder relative to ``root``, attribute table and partition table, if all are there."""
    folders = [f"{IMAGES}/{IMAGES}", IMAGES, PNG_IMAGES]
    folder = next((name for name in folders if (root / name).is_dir()), IMAGES)
    missing, tables = [], []
    if not (root / folder).is_dir():
        missing.append(f"the folder {root / IMAGES} with 000001.jpg and so on")
    for text in (root / "list_attr_celeba.txt", root / "list_eval_partition.txt"):
        tables.append(text if text.is_file() else text.with_suffix(".csv"))
        if not tables[-1].is_file():
            missing.append(f"the file {text} (or .csv)")
    if missing:
        raise DataError(
            f"CelebA needs {', '.join(missing)}: get them from "
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put them there; they are never "
            "downloaded for you."
        )
    return folder, tables[0], tables[1]


def _read(file: Path, columns: list[str], counted: bool, optional: Collection[str] = ()) -> Table:
    """Columns ``image_id`` and ``columns``, from the CSV or from the original text file.

    Of a CSV also the ``optional`` ones that are there.

    The latter has a line of words per image. If it is ``counted``, it begins with the number of
    images in its first line and the names of its columns, but for ``image_id``, in its second.
    """
    if file.suffix == ".csv":
        return read_table(file, [IMAGE, *columns], optional)
    numbered = enumerate(read_text(file).splitlines(), start=1)
    lines = ((row, line.split()) for row, line in numbered if line.strip())
    count, header = [], columns
    if counted:
        count, header = next(lines, (1, []))[1], next(lines, (2, []))[1]
        if len(count) != 1 or not re.fullmatch("[0-9]+", count[0]) or not header:
            raise DataError(
                f"Table {file} row 1 should give the number of images alone, and row 2 the "
                "attributes: take the original file."
            )
        if lacking := [name for name in columns if name not in header]:
            known = ", ".join(header)
            raise DataError(f"Table {file} has no attribute '{lacking[0]}': it has {known}.")
    uneven = f"words where {len(header) + 1} are due: the file is not whole"
    table = select_columns(file, [IMAGE, *header], [IMAGE, *columns], lines, uneven)
    if not len(table):
        raise DataError(f"Table {file} has no rows: take the original file.")
    if counted and int(count[0]) != len(table):
        raise DataError(
            f"Table {file} row 1 says {count[0]} images, but {len(table)} rows follow: "
            "the file is not whole."
        )
    return table


def _in_order_of(names: list[str], table: Table, other: Table, folder: Path) -> Table:
    """The other table's rows in the order of ``names``, the images of ``table``."""
    place_of = {name: place for place, name in enumerate(image_names(other, IMAGE, folder))}
    places = []
    for place, name in enumerate(names):
        if name not in place_of:
            raise table.error(place, IMAGE, f"{name!r} has no row in {other.file}: add it.")
        places.append(place_of[name])
    return other.select(places)
