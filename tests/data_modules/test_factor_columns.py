"""Cells become factors by the graph's kinds and ranges, or one clear error."""

from pathlib import Path

import pytest
import torch

from data_modules.columns import factor_tensor
from diffcf.causal.factor import Factor
from diffcf.io.errors import DataError
from diffcf.io.tables import Table

ANGLE = Factor("angle", "continuous", -1.0, 3.0)
SMILE = Factor("smile", "binary")
SHAPE = Factor("shape", "categorical", categories=("cube", "ball", "cone"))
SONS = Factor("sons", "integer", 0, 4)
AREA = Factor("area", low=1, high=100, scale="log")


def column(values: list, name: str = "angle") -> Table:
    return Table(Path("t.csv"), {name: values}, list(range(2, len(values) + 2)))


def test_continuous_values_are_scaled_by_the_range() -> None:
    values = ["-1", " 0.0", "1e0", 3, 3.0000000001]
    factors = factor_tensor(column(values), [ANGLE])
    assert factors[:, 0].tolist() == [0, 0.25, 0.5, 1, 1]
    assert factors.dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [
        ["0", "1"],
        ["-1", "1"],
        ["False", "TRUE"],
        ["no", "Yes"],
        [0.0, 1.0],
        [False, True],
        ["0.00", "+1"],
    ],
)
def test_binary_values_have_many_spellings(values: list) -> None:
    assert factor_tensor(column(values, "smile"), [SMILE])[:, 0].tolist() == [0, 1]


def test_categories_are_names() -> None:
    factors = factor_tensor(column(["cone", " cube ", "ball"], "shape"), [SHAPE])
    assert factors[:, 0].tolist() == [1, 0, 0.5]
    numbers = Factor("shape", "categorical", categories=("1", "2"))
    assert factor_tensor(column([1, 2], "shape"), [numbers])[:, 0].tolist() == [0, 1]
    missing = Factor("shape", "categorical", categories=("none", "hat"))
    assert factor_tensor(column(["hat", "none"], "shape"), [missing])[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("factor", "values", "message"),
    [
        (ANGLE, ["1", ""], "empty"),
        (ANGLE, ["1", "NaN"], "empty"),
        (ANGLE, [1.0, float("nan")], "empty"),
        (ANGLE, [1.0, None], "empty"),
        (ANGLE, ["1", "inf"], "'inf' is not finite"),
        (ANGLE, ["1", "0,5"], "'0,5' is not a number"),
        (ANGLE, ["1", "1_0"], "'1_0' is not a number: write its digits without separators"),
        (ANGLE, ["1", "１"], "'１' is not a number: write it with the digits 0-9"),
        (ANGLE, [1.0, True], "'True' is not a number"),
        (ANGLE, ["1", "3.01"], "3.01 lies outside the range -1 … 3"),
        (ANGLE, ["1", "-2"], "-2 lies outside"),
        (SMILE, ["1", "2"], "'2' is not binary"),
        (SMILE, ["1", "1.0000001"], "'1.0000001' is not binary"),
        (SMILE, ["1", "maybe"], "'maybe' is not binary"),
        (SMILE, ["0", "-1"], "-1 stands in a column that has 0 too"),
        (SONS, ["1", "1.5"], "'1.5' is no whole number"),
        (SONS, ["1", "5"], "5 lies outside the range 0 … 4"),
        (AREA, ["1", "0"], "0 lies outside the range 1 … 100"),
        (AREA, ["1", "-3"], "-3 lies outside the range 1 … 100"),
        (SHAPE, ["cube", "pyramid"], "'pyramid' is no category.*cube, ball, cone"),
        (SHAPE, ["cube", ""], "empty"),
    ],
)
def test_a_wrong_cell_is_named_with_row_column_and_value(
    factor: Factor, values: list, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        factor_tensor(column(values, factor.name), [factor])
    assert f"t.csv row 3, column '{factor.name}'" in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_numbers_and_log_scales_are_read() -> None:
    assert factor_tensor(column(["3", 4.0, "0.0"], "sons"), [SONS])[:, 0].tolist() == [0.75, 1, 0]
    areas = factor_tensor(column(["1", "10", 100], "area"), [AREA])[:, 0]
    torch.testing.assert_close(areas, torch.tensor([0, 0.5, 1]))


def test_a_factor_may_have_a_column_of_another_name() -> None:
    table = column(["2"], "Grin")
    with pytest.raises(DataError, match="column 'Grin'"):
        factor_tensor(table, [SMILE], {"smile": "Grin"})
