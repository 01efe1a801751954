"""Observed factors of image files, from a table: all of them or some, for what-if questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from mimetypes import guess_type
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from data_modules.columns import factor_tensor
from diffcf.causal import CausalGraph, Factor
from diffcf.io import DataError, Table, read_table


def observed_factors(
    file: str | Path,
    graph: CausalGraph,
    files: Sequence[Path],
    image_column: str = "image",
    columns: Mapping[str, str] | None = None,
    scaled: bool = False,
) -> Tensor:
    """Factors ``[N, K]`` in [0, 1] units of image files, NaN where the table does not tell.

    Args:
        file: a table as :func:`diffcf.io.read_table` reads it, with a row for each image. Factors
            without a column, and empty cells, are not observed.
        graph: the factors.
        files: N image files.
        image_column: column of the images' names, with or without folders and ending.
        columns: for factors whose column is not named like them, its name.
        scaled: whether numbers are in [0, 1] units instead of native ones.

    Raises:
        GraphError: when ``columns`` names an unknown factor.
        DataError: when the table has none of the factors, or no row for an image, or two; and for
            cells as :func:`data_modules.columns.factor_tensor`.
    """
    headings = column_names(graph, columns)
    table = read_table(file, [image_column, *(columns or {}).values()], headings.values())
    known = [factor for factor in graph.factors if headings[factor.name] in table.columns]
    if not known:
        raise DataError(
            f"Table {file} has none of the factors {', '.join(graph.names)}: name its columns like "
            "them, or say which are theirs (columns)."
        )
    chosen = table.select(_places(table, image_column, files))
    kinds = [_unscaled(factor) for factor in known] if scaled else known
    found = factor_tensor(chosen, kinds, headings, partial=True)
    factors = torch.full((len(files), len(graph)), torch.nan)
    factors[:, [graph.column(factor.name) for factor in known]] = found
    return factors


def column_names(graph: CausalGraph, columns: Mapping[str, str] | None) -> dict[str, str]:
    """The heading of every factor's column; GraphError where ``columns`` has an unknown factor."""
    for name in columns or {}:
        graph.column(name)
    return {name: (columns or {}).get(name, name) for name in graph.names}


def _unscaled(factor: Factor) -> Factor:
    discrete = factor.kind in ("binary", "categorical")
    return factor if discrete else Factor(factor.name)


def _places(table: Table, column: str, files: Sequence[Path]) -> list[int]:
    """The place in the table of each file."""
    named: dict[str, list[int]] = {}
    for place, value in enumerate(table.columns[column]):
        name = PurePosixPath(str(value).strip().replace("\\", "/")).name
        ending = (guess_type(name, strict=False)[0] or "").startswith("image/")
        for key in {name, PurePosixPath(name).stem if ending else name}:
            named.setdefault(key, []).append(place)
    found = []
    for file in files:
        places = named.get(file.name) or named.get(file.stem) or []
        if len(places) > 1:
            rows = " and ".join(str(table.rows[place]) for place in places[:2])
            raise DataError(f"Table {table.file} names {file.name} in the rows {rows}: keep one.")
        if not places:
            raise DataError(
                f"Table {table.file} has no row for {file}: add one, with empty cells for what is "
                "to be read off the image."
            )
        found.append(places[0])
    return found
