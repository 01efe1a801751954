"""From the values of a table to the factor tensor, by the kinds and ranges of a causal graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite

import torch
from torch import Tensor

from data_modules.tables import DataError, Table
from diffcf.graph import Factor

__all__ = ["factor_tensor", "number_tensor"]

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
    scale = partial(SCALES[factor.kind], factor)
    scaled = [_cell(table, place, name, scale, factor.categories) for place in range(len(table))]
    if factor.kind == "binary":
        _check_one_convention(table, name)
    return torch.tensor(scaled, dtype=torch.float32)


def _cell(
    table: Table,
    place: int,
    name: str,
    parse: Callable[[str], float],
    full: Sequence[str] = (),
) -> float:
    """One value; DataError with its place where it is empty, unless ``full`` has that word."""
    value = table.columns[name][place]
    text = "" if value is None else str(value).strip()
    if text.lower() in MISSING and text not in full:
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


def _continuous(factor: Factor, text: str) -> float:
    scaled = (_number(text) - factor.low) / (factor.high - factor.low)
    if not -SLACK <= scaled <= 1 + SLACK:
        raise DataError(
            f"{text} lies outside the range {factor.low:g} … {factor.high:g}: correct it, or widen "
            "the range in the graph."
        )
    return min(max(scaled, 0.0), 1.0)


def _binary(factor: Factor, text: str) -> float:
    known = text.lower()
    if known in YES:
        return 1.0
    if known in NO or known in MINUS:
        return 0.0
    raise DataError(f"{text!r} is not binary: use 0/1, -1/1, true/false or yes/no.")


def _categorical(factor: Factor, text: str) -> float:
    if text not in factor.categories:
        known = ", ".join(factor.categories)
        raise DataError(
            f"{text!r} is no category: correct it, or add it to the graph, which knows {known}."
        )
    return factor.scaled(text)


def _check_one_convention(table: Table, name: str) -> None:
    """A column of -1, 0 and 1 has three values: reading both -1 and 0 as "no" would hide it."""
    texts = [str(value).strip().lower() for value in table.columns[name]]
    minus = next((place for place, text in enumerate(texts) if text in MINUS), None)
    if minus is not None and any(text in NO for text in texts):
        raise table.error(
            minus, name, "-1 stands in a column that has 0 too: use 0/1 or -1/1, not both."
        )


SCALES: dict[str, Callable[[Factor, str], float]] = {
    "continuous": _continuous,
    "binary": _binary,
    "categorical": _categorical,
}
