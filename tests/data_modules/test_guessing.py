"""Columns of a table become factors, and every guess reads the cells that it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.columns import factor_tensor
from data_modules.guessing import MOST_VALUES, factor_columns, guess_factors
from diffcf.causal import Factor
from diffcf.io import Table

TEXTS = [f"id{row}" for row in range(MOST_VALUES + 1)]


def column(values: list) -> Table:
    return Table(Path("t.csv"), {"heading": values}, list(range(2, len(values) + 2)))


@pytest.mark.parametrize(
    ("cells", "factor"),
    [
        (["0", "1", ""], Factor("f", "binary")),
        (["-1", "1"], Factor("f", "binary")),
        ([True, False, None], Factor("f", "binary")),
        (["yes", "No"], Factor("f", "binary")),
        (["-1", "0", "1"], Factor("f", "integer", -1, 1)),
        (["3", "1", "NaN", "12.0"], Factor("f", "integer", 1, 12)),
        (["0", "5000000"], Factor("f", "continuous", 0, 5_000_000)),
        ([str(row) for row in range(MOST_VALUES + 1)], Factor("f", "continuous", 0, MOST_VALUES)),
        (["1.5", "-2", "1e3", "na"], Factor("f", "continuous", -2, 1000)),
        ([0.25, 0.5], Factor("f", "continuous", 0.25, 0.5)),
        (["round", "cap", "", " cap"], Factor("f", "categorical", categories=("cap", "round"))),
        (["1", "2", "3+"], Factor("f", "categorical", categories=("1", "2", "3+"))),
        (TEXTS[1:], Factor("f", "categorical", categories=tuple(sorted(TEXTS[1:])))),
    ],
    ids=str,
)
def test_cells_say_what_a_column_is(cells: list, factor: Factor) -> None:
    guessed, left_out = guess_factors(column(cells), {"f": "heading"})
    assert guessed == [factor] and not left_out
    read = factor_tensor(column(cells), guessed, {"f": "heading"}, partial=True)
    assert read.nan_to_num(0).min() == 0 and read.nan_to_num(0).max() == 1


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["", "NA", None], "no label"),
        (["5", "5", ""], "every label is '5'"),
        (["1", "1.0"], "every label is 1"),
        (["yes", "yes"], "every label is 'yes'"),
        (TEXTS, "21 different texts, such as 'id0'"),
        (["1", "1.000000000001"], "single precision"),
    ],
)
def test_what_can_be_no_factor_is_left_out_with_the_reason(cells: list, reason: str) -> None:
    guessed, left_out = guess_factors(column(cells), {"f": "heading"})
    assert not guessed and reason in left_out["f"]


def test_every_heading_gets_a_name_of_its_own() -> None:
    headings = ["light", "Age (years)", "Age years", "", "2nd", "%", "Größe/cm", "x" * 200]
    named = factor_columns(headings)
    assert list(named.values()) == [heading for heading in headings if heading]
    assert list(named)[:6] == ["light", "Age_years", "Age_years_2", "_2nd", "column", "Größe_cm"]
    for name in named:
        Factor(name)


def test_a_heading_that_is_a_name_keeps_it() -> None:
    assert factor_columns(["a b", "a_b"]) == {"a_b_2": "a b", "a_b": "a_b"}
