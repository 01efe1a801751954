"""Which rows of a table are for training, validation and test: by a column, or at random."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from data_modules.base import carve, fraction
from data_modules.tables import DataError, Table

__all__ = ["checked_fractions", "column_split", "random_split"]

STAGE_OF = {
    "train": "train",
    "training": "train",
    "0": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "1": "val",
    "test": "test",
    "testing": "test",
    "2": "test",
}


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
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for place, value in enumerate(table.columns[column]):
        stage = STAGE_OF.get(str(value).strip().lower())
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
