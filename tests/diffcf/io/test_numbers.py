"""One way to write a number, in every table and every command."""

import pytest

from diffcf.causal import CausalGraph, Factor, parse_do, parse_sweep
from diffcf.io import DataError, InterventionError, parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), (" 3 ", 3), ("+1", 1), ("-1", -1), ("1.", 1), (".5", 0.5), ("1e5", 1e5),
     ("-2.5E-3", -0.0025), ("007", 7), ("\ufeff3".strip("\ufeff"), 3)],
)  # fmt: skip
def test_numbers_are_decimal(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("1_0", "digits without separators"),
        ("1 000", "digits without separators"),
        ("1\u202f000", "digits without separators"),
        ("1'000.5", "digits without separators"),
        ("1,5", "a decimal point, not a comma"),
        ("1,000.5", "thousands without separators"),
        ("0x1F", "decimal digits"),
        ("１２", "digits 0-9"),
        ("٣", "digits 0-9"),
        ("1²", "digits 0-9"),
        ("True", "correct it"),
        ("", "correct it"),
        (".", "correct it"),
        ("1e", "correct it"),
        ("−1", "correct it"),
        ("nan", "not finite"),
        ("-inf", "not finite"),
        ("Infinity", "not finite"),
        ("1e999", "not finite"),
    ],
)
def test_whatever_else_looks_like_one_is_a_sentence(text: str, remedy: str) -> None:
    with pytest.raises(DataError, match=remedy) as error:
        parse_number(text)
    assert repr(text) in str(error.value)


def test_commands_read_numbers_as_tables_do() -> None:
    graph = CausalGraph([Factor("light", high=100.0)])
    assert parse_do(["light=1e1"], graph) == {"light": 10}
    for text in ("light=1_0", "light=１２", "light=inf"):
        with pytest.raises(InterventionError, match=f"'{text}'"):
            parse_do([text], graph)
    with pytest.raises(InterventionError, match="1_0"):
        parse_sweep("light=0:1_0:3", graph)
