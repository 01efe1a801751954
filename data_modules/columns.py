"""Columns of a table as tensors: factors, other numbers, and the split of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite

import torch
from torch import Generator, Tensor

from data_modules.base import carve, fraction
from diffcf.causal import Factor
from diffcf.io import DataError, Table

WORDS = {
    "train": ("train", "training", "0"),
    "val": ("val", "valid", "validation", "1"),
    "test": ("test", "testing", "2"),
}
"""What a split column may call each stage."""


def checked_fractions(val_fraction: float, test_fraction: float) -> tuple[float, float]:
    """Both fractions; ValueError unless each is above 0 and they leave something to training."""
    fraction("val_fraction", val_fraction)
    fraction("test_fraction", test_fraction)
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to "
            "training: lower one."
        )
    return val_fraction, test_fraction


def random_split(
    count: int, val_fraction: float, test_fraction: float, generator: Generator
) -> dict[str, Tensor]:
    """Rows ``0 … count - 1`` in three parts, each of one row at least (``count`` is 3 or more)."""
    rest, test = carve(torch.arange(count), test_fraction, generator)
    train, val = carve(rest, val_fraction / (1 - test_fraction), generator)
    return {"train": train, "val": val, "test": test}


def column_split(
    table: Table, column: str, val_fraction: float | None, generator: Generator
) -> dict[str, Tensor]:
    """Rows by the words train, val (valid, validation) and test, or by the numbers 0, 1 and 2.

    Where the column names no validation rows, ``val_fraction`` of the training rows, chosen at
    random, are used; None wants them named.

    Raises:
        DataError: naming file, row and column, for any other word, or when rows for one of the
            three are missing.
    """
    stage_of = {word: stage for stage, words in WORDS.items() for word in words}
    rows: dict[str, list[int]] = {stage: [] for stage in WORDS}
    for place, value in enumerate(table.columns[column]):
        stage = stage_of.get(str(value).strip().lower())
        if stage is None:
            raise table.error(
                place, column, f"{value!r} is no split: use train, val or test, or 0, 1 or 2."
            )
        rows[stage].append(place)
    carved = not rows["val"] and val_fraction is not None
    least = {"train": 2 if carved else 1, "val": 0 if carved else 1, "test": 1}
    for stage, count in least.items():
        if len(rows[stage]) < count:
            raise DataError(
                f"Table {table.file}, column '{column}' names {len(rows[stage])} {stage} rows: "
                f"name at least {count}."
            )
    split = {stage: torch.tensor(places) for stage, places in rows.items()}
    if carved and val_fraction is not None:
        split["train"], split["val"] = carve(split["train"], val_fraction, generator)
    return split


# What an empty cell looks like, in lower case: blank, or as pandas and R write a missing value.
MISSING = ("", "nan", "na", "n/a", "<na>", "null", "none")
YES = ("1", "1.0", "true", "yes")
NO = ("0", "0.0", "false", "no")
MINUS = ("-1", "-1.0")
# How far beyond its range a value may lie, as part of the range: rounding of written decimals.
SLACK = 1e-6


def factor_tensor(
    table: Table, factors: Sequence[Factor], columns: Mapping[str, str] | None = None
) -> Tensor:
    """The factors' columns of a table, float32 ``[N, K]`` in [0, 1] units.

    A factor's column is named like it, unless ``columns`` gives another name.

    Continuous values are native and scaled by the factor's range. Binary ones are 0/1, -1/1,
    true/false or yes/no. Categorical ones are names of categories.

    Raises:
        DataError: naming file, row, column and value, for a cell that is empty, that is not a
            value of its factor's kind, or that lies outside the factor's range.
    """
    named = columns or {}
    read = [_column(table, factor, named.get(factor.name, factor.name)) for factor in factors]
    return torch.stack(read, dim=1)


def number_tensor(table: Table, columns: Sequence[str]) -> Tensor:
    """Columns of any finite numbers, float32 ``[N, M]``, as they are.

    Raises:
        DataError: naming file, row, column and value, for a cell that holds none.
    """
    rows = [[_cell(table, place, name, _number) for place in range(len(table))] for name in columns]
    return torch.tensor(rows, dtype=torch.float32).T


def _column(table: Table, factor: Factor, name: str) -> Tensor:
    scale = partial(_scaled, factor)
    scaled = [_cell(table, place, name, scale, factor.categories) for place in range(len(table))]
    if factor.kind == "binary":
        _check_one_convention(table, name)
    return torch.tensor(scaled, dtype=torch.float32)


def _cell(
    table: Table,
    place: int,
    name: str,
    parse: Callable[[str], float],
    categories: Sequence[str] = (),
) -> float:
    """One value; DataError with its place where it is empty (a category may look like it)."""
    value = table.columns[name][place]
    text = "" if value is None else str(value).strip()
    if text.lower() in MISSING and text not in categories:
        raise table.error(place, name, f"the cell is empty ({value!r}): fill it, or drop the row.")
    try:
        return parse(text)
    except DataError as error:
        raise table.error(place, name, str(error)) from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{text!r} is not a number: correct it.") from None
    if not isfinite(value):
        raise DataError(f"{text!r} is not finite: correct it.")
    return value


def _scaled(factor: Factor, text: str) -> float:
    """The value in [0, 1] units."""
    if factor.kind == "binary":
        if text.lower() not in YES + NO + MINUS:
            raise DataError(f"{text!r} is not binary: use 0/1, -1/1, true/false or yes/no.")
        return float(text.lower() in YES)
    if factor.kind == "categorical":
        if text not in factor.categories:
            known = ", ".join(factor.categories)
            raise DataError(
                f"{text!r} is no category: correct it, or add it to the graph, which knows {known}."
            )
        return factor.scaled(text)
    scaled = factor.to_scaled(_number(text))
    if not -SLACK <= scaled <= 1 + SLACK:
        raise DataError(
            f"{text} lies outside the range {factor.low:g} … {factor.high:g}: correct it, or widen "
            "the range in the graph."
        )
    return min(max(scaled, 0.0), 1.0)


def _check_one_convention(table: Table, name: str) -> None:
    """A column of -1, 0 and 1 has three values: reading both -1 and 0 as "no" would hide it."""
    texts = [str(value).strip().lower() for value in table.columns[name]]
    minus = next((place for place, text in enumerate(texts) if text in MINUS), None)
    if minus is not None and any(text in NO for text in texts):
        raise table.error(
            minus, name, "-1 stands in a column that has 0 too: use 0/1 or -1/1, not both."
        )
