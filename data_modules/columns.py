"""Columns of a table as tensors: factors, other numbers, and the split of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial as bind
from math import nan

import torch
from torch import Generator, Tensor

from data_modules.base import STAGES, carve, fraction
from diffcf.causal import CausalGraph, Factor
from diffcf.io import DataError, SettingsError, Table, parse_number

STAGE_OF = {
    **dict.fromkeys(("train", "training", "0"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "1"), "val"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}
"""What a split column may call each stage."""
# What an empty cell looks like, in lower case: blank, or as pandas and R write a missing value.
MISSING = ("", "nan", "na", "n/a", "<na>", "null", "none")
YES = ("1", "true", "yes")
NO = ("0", "false", "no")
MINUS = "-1"
INTERVENED = "intervened"  # the usual name of the column of :func:`intervened_tensor`
# How far beyond its range a value may lie, as part of the range: rounding of written decimals.
SLACK = 1e-6


def checked_fractions(val_fraction: float, test_fraction: float) -> tuple[float, float]:
    """Both fractions; ValueError unless each is above 0 and they leave something to training."""
    fraction("val_fraction", val_fraction)
    fraction("test_fraction", test_fraction)
    if val_fraction + test_fraction >= 1:
        raise SettingsError(
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
    table: Table,
    column: str,
    val_fraction: float | None,
    generator: Generator,
    whole: Tensor | None = None,
) -> dict[str, Tensor]:
    """Rows by the words train, val (valid, validation) and test, or by the numbers 0, 1 and 2.

    Where the column names no validation rows, ``val_fraction`` of the training rows, chosen at
    random, are used; None wants them named. Only ``whole`` rows ``[N]`` (bool) are taken for that;
    None takes any.

    Raises:
        DataError: naming file, row and column, for any other word, or when rows for one of the
            three are missing.
    """
    rows: dict[str, list[int]] = {stage: [] for stage in STAGES}
    for place, value in enumerate(table.columns[column]):
        stage = STAGE_OF.get(_word(value))
        if stage is None:
            problem = f"{value!r} is no split: use train, val or test, or 0, 1 or 2."
            raise table.error(place, column, problem)
        rows[stage].append(place)
    carved = None if rows["val"] else val_fraction
    named = {"train": 1, "val": 1} if carved is None else {"train": 2, "val": 0}
    for stage, count in {**named, "test": 1}.items():
        if len(rows[stage]) < count:
            raise DataError(
                f"Table {table.file}, column '{column}' names {len(rows[stage])} {stage} rows: "
                f"name at least {count}."
            )
    split = {stage: torch.tensor(places) for stage, places in rows.items()}
    if carved is not None:
        train = split["train"]
        whole = torch.ones(len(table), dtype=torch.bool) if whole is None else whole
        rest, split["val"] = carve(train[whole[train]], carved, generator)
        split["train"] = torch.cat([rest, train[~whole[train]]])
    return split


def factor_tensor(
    table: Table,
    factors: Sequence[Factor],
    columns: Mapping[str, str] | None = None,
    partial: bool = False,
) -> Tensor:
    """The factors' columns of a table, float32 ``[N, K]`` in [0, 1] units.

    A factor's column is named like it, unless ``columns`` gives another name. Continuous values are
    native and scaled by the factor's range. Binary ones are 0/1, -1/1, true/false or yes/no.
    Categorical ones are names of categories. An empty cell is NaN where the table is ``partial``.

    Raises:
        DataError: naming file, row, column and value, for a cell that is empty, that is not a
            value of its factor's kind, or that lies outside the factor's range.
    """
    read = []
    for factor in factors:
        name = (columns or {}).get(factor.name, factor.name)
        read.append(_column(table, name, bind(_scaled, factor), factor.categories, partial))
        if factor.kind == "binary":
            # A column of -1, 0 and 1 has three values: reading both -1 and 0 as "no" would hide it.
            words = [_word(value) for value in table.columns[name]]
            if MINUS in words and set(words) & set(NO):
                minus = words.index(MINUS)
                problem = "-1 stands in a column that has 0 too: use 0/1 or -1/1, not both."
                raise table.error(minus, name, problem)
    return torch.stack(read, dim=1)


def number_tensor(table: Table, columns: Sequence[str]) -> Tensor:
    """Columns of finite numbers, float32 ``[N, M]``, as they are; DataError for other cells."""
    return torch.stack([_column(table, name, parse_number) for name in columns], dim=1)


def intervened_tensor(table: Table, column: str, graph: CausalGraph) -> Tensor | None:
    """Which factors each row says somebody set, ``[N, K]`` bool; None if no row names any.

    A cell has names of factors, parted by ``;``, or is empty.

    Raises:
        DataError: naming file, row and column, for a name that is no factor.
    """
    mask = torch.zeros(len(table), len(graph), dtype=torch.bool)
    for place, value in enumerate(table.columns.get(column, ())):
        for name in map(str.strip, str("" if value is None else value).split(";")):
            if name in graph.names:
                mask[place, graph.column(name)] = True
            elif name.lower() not in MISSING:
                known = ", ".join(graph.names)
                problem = f"{name!r} is no factor: name some of {known}, parted by ';', or none."
                raise table.error(place, column, problem)
    return mask if mask.any() else None


def known_labels(table: Table, column: str) -> list[str]:
    """The cells of a column as texts without blanks around, those of missing labels left out."""
    texts = map(_text, table.columns[column])
    return [text for text in texts if not _is_missing(text)]


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _is_missing(text: str) -> bool:
    return text.lower() in MISSING


def _column(
    table: Table,
    name: str,
    parse: Callable[[str], float],
    categories: Sequence[str] = (),
    partial: bool = False,
) -> Tensor:
    """A column's parsed cells; DataError where one is empty (a category may look like it)."""
    values = []
    for place, value in enumerate(table.columns[name]):
        text = _text(value)
        if _is_missing(text) and text not in categories:
            if partial:
                values.append(nan)
                continue
            problem = f"the cell is empty ({value!r}): fill it, or drop the row."
            raise table.error(place, name, problem)
        try:
            values.append(parse(text))
        except DataError as error:
            raise table.error(place, name, str(error)) from None
    return torch.tensor(values, dtype=torch.float32)


def _word(value: object) -> str:
    """A cell in lower case, whole numbers as an integer: ``1``, ``1.0`` and ``+1`` are the same."""
    text = _text(value).lower()
    try:
        number = parse_number(text)
    except DataError:
        return text
    return str(int(number)) if number.is_integer() else text


def _scaled(factor: Factor, text: str) -> float:
    if factor.kind == "binary":
        if _word(text) not in (*YES, *NO, MINUS):
            raise DataError(f"{text!r} is not binary: use 0/1, -1/1, true/false or yes/no.")
        return float(_word(text) in YES)
    if factor.kind == "categorical":
        if text not in factor.categories:
            known = ", ".join(factor.categories)
            raise DataError(
                f"{text!r} is no category: correct it, or add it to the graph, which knows {known}."
            )
        return factor.scaled(text)
    number = parse_number(text)
    if factor.kind == "integer" and number % 1:
        raise DataError(f"{text!r} is no whole number: correct it, or make the factor continuous.")
    scaled = factor.to_scaled(number)
    if not -SLACK <= scaled <= 1 + SLACK:
        raise DataError(
            f"{text} lies outside the range {factor.domain}: correct it, or widen the range in the "
            "graph."
        )
    return min(max(scaled, 0.0), 1.0)
