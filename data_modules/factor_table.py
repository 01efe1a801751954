"""Your own data: a folder of images, a table of factors and a graph, without writing Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.columns import (
    INTERVENED,
    checked_fractions,
    column_split,
    factor_tensor,
    intervened_tensor,
    random_split,
)
from data_modules.observed import column_names
from data_modules.stored import ImageTable, StoredImageDataModule, as_graph
from diffcf.causal import CausalGraph, Scene
from diffcf.io import DataError, Table, image_names, read_table


class FactorTableDataModule(StoredImageDataModule):
    """Images of a folder, with their factors in a CSV or Parquet table.

    The table has a row per image: a column of file names relative to ``images``, and a column for
    each factor of the graph, named like it. Further columns are ignored. Names may lack their
    ending, or have another than the file's. An empty cell of a factor is a missing label. Such a
    row is for training: validation and test, whose scores need every label, are chosen from the
    others.

    Args:
        images: folder of PNG, JPEG, WebP, BMP or TIFF files of any size, grey or colour.
        table: CSV or Parquet file; see :func:`diffcf.io.tables.read_table`.
        graph: the causal graph, or its YAML file. The range of a continuous factor is in the
            table's units, and no value may lie outside it.
        image_column: column of the file names.
        columns: for factors whose column is not named like them, its name, as in
            ``{"age": "Age (years)"}``.
        split_column: column that says train, val or test (or 0, 1, 2) for every row; None splits
            at random by ``seed``.
        val_fraction: part of the rows (with a split column: of its training rows, where it names
            no val rows) for validation, in (0, 1).
        test_fraction: part of the rows for test, in (0, 1), without a split column.
        intervened_column: column that names the factors which somebody set in a row, parted by
            ``;``, empty for none (:class:`diffcf.causal.Marks`). ``intervened`` need not be there,
            and means nothing where it is a factor's.
        scene, common: see :class:`data_modules.stored.StoredImageDataModule`.
    """

    def __init__(
        self,
        images: str | Path,
        table: str | Path,
        graph: CausalGraph | str | Path,
        image_column: str = "image",
        split_column: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        scene: Scene | None = None,
        columns: dict[str, str] | None = None,
        intervened_column: str = INTERVENED,
        **common: Any,
    ) -> None:
        super().__init__(as_graph(graph), scene, **common)
        self.images, self.file = Path(images), Path(table)
        self.image_column, self.split_column = image_column, split_column
        self.intervened_column = intervened_column
        self.columns = column_names(self.graph, columns)
        self.fractions = checked_fractions(val_fraction, test_fraction)

    def table(self, generator: Generator) -> ImageTable:
        if not self.images.is_dir():
            raise DataError(f"Image folder {self.images} does not exist: check the path.")
        wanted = [self.image_column, *self.columns.values()]
        if self.split_column is not None:
            wanted.append(self.split_column)
        # The usual column need not be there, and may be a factor's; another was asked for.
        column, usual = self.intervened_column, self.intervened_column == INTERVENED
        wanted += [] if usual else [column]
        table = read_table(self.file, list(dict.fromkeys(wanted)), [INTERVENED] if usual else [])
        names = image_names(table, self.image_column, self.images)
        factors = factor_tensor(table, self.graph.factors, self.columns, partial=True)
        origin = [table.origin(place) for place in range(len(table))]
        taken = usual and column in self.columns.values()
        return ImageTable(
            self.images,
            names,
            factors,
            origin,
            self._split_of(table, ~factors.isnan().any(dim=1), generator),
            source=table,
            intervened=None if taken else intervened_tensor(table, column, self.graph),
        )

    def _split_of(self, table: Table, whole: Tensor, generator: Generator) -> dict[str, Tensor]:
        """Rows of each part; validation and test are drawn from the ``whole`` ones ``[N]``."""
        if self.split_column is not None:
            return column_split(table, self.split_column, self.fractions[0], generator, whole)
        rows = whole.nonzero()[:, 0]
        if len(rows) < 3:
            kind = "" if len(rows) == len(table) else " without an empty cell"
            raise DataError(
                f"Table {self.file} has {len(rows)} rows{kind}: training, validation and test need "
                "one each, so give 3 or more."
            )
        parts = random_split(len(rows), *self.fractions, generator)
        split = {stage: rows[places] for stage, places in parts.items()}
        return split | {"train": torch.cat([split["train"], (~whole).nonzero()[:, 0]])}
