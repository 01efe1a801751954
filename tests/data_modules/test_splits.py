"""Splits: seeded at random, or by a column."""

from pathlib import Path

import pytest
import torch

from data_modules.columns import checked_fractions, column_split, random_split
from diffcf.io.errors import DataError
from diffcf.io.tables import Table


def column(values: list, name: str = "angle") -> Table:
    return Table(Path("t.csv"), {name: values}, list(range(2, len(values) + 2)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_random_split_is_a_seeded_partition() -> None:
    split = random_split(100, 0.1, 0.2, seeded())
    assert {name: len(rows) for name, rows in split.items()} == {"train": 70, "val": 10, "test": 20}
    assert torch.equal(torch.cat(list(split.values())).sort().values, torch.arange(100))
    again, other = random_split(100, 0.1, 0.2, seeded()), random_split(100, 0.1, 0.2, seeded(1))
    assert torch.equal(again["test"], split["test"])
    assert not torch.equal(other["test"].sort().values, split["test"].sort().values)
    assert all(len(rows) == 1 for rows in random_split(3, 0.1, 0.1, seeded()).values())


@pytest.mark.parametrize(
    "words",
    [["train", "val", "test", "train"], ["Train", "VALID", " test", "training"], [0, 1, 2, 0]],
)
def test_a_split_column_has_words_or_numbers(words: list) -> None:
    split = column_split(column(words, "split"), "split", 0.5, seeded())
    assert {name: rows.tolist() for name, rows in split.items()} == {
        "train": [0, 3],
        "val": [1],
        "test": [2],
    }


def test_validation_is_carved_where_the_column_names_none() -> None:
    table = column(["train"] * 10 + ["test"], "split")
    split = column_split(table, "split", 0.3, seeded())
    assert [len(split[stage]) for stage in ("train", "val", "test")] == [7, 3, 1]
    with pytest.raises(DataError, match="0 val rows"):
        column_split(table, "split", None, seeded())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "holdout", "test"], "row 3, column 'split': 'holdout' is no split"),
        (["train", "", "test"], "row 3, column 'split': '' is no split"),
        (["train", "train", "val"], "names 0 test rows"),
        (["test", "test", "val"], "names 0 train rows"),
    ],
)
def test_a_wrong_split_is_an_error(words: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        column_split(column(words, "split"), "split", 0.1, seeded())


@pytest.mark.parametrize("fractions", [(0.0, 0.1), (0.1, 1.0), (0.5, 0.5), (-0.1, 0.2)])
def test_fractions_must_leave_something(fractions: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="fraction"):
        checked_fractions(*fractions)
