"""Factors guessed from the columns of a table, by the rules by which their cells are read later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from re import sub

from data_modules.columns import factor_tensor, known_labels
from diffcf.causal import Factor
from diffcf.causal.factor import MOST_LEVELS
from diffcf.io import DataError, GraphError, Table, parse_number

MOST_VALUES = 20
"""Of a column of texts, to be categories; of one of whole numbers, to be an integer factor."""
LONGEST = 80  # letters of a factor's name that is made of a heading


def factor_columns(headings: Sequence[str]) -> dict[str, str]:
    """The heading of each column by a name that its factor can have; empty headings are left out.

    The name is the heading itself where that is a name of letters, digits and ``_``.

    >>> factor_columns(["Age (years)", "light", "2nd light"])
    {'Age_years': 'Age (years)', 'light': 'light', '_2nd_light': '2nd light'}
    """
    taken = {heading for heading in headings if _is_name(heading)}
    named = {}
    for heading in filter(None, headings):
        name = heading if heading in taken else _new_name(heading, taken)
        taken.add(name)
        named[name] = heading
    return named


def guess_factors(table: Table, columns: Mapping[str, str]) -> tuple[list[Factor], dict[str, str]]:
    """What factors the columns of a table may be, and by name why the others are none.

    Two values that a binary factor takes make one; other numbers are integer where they are whole
    and of at most :data:`MOST_VALUES` different values, else continuous, from the least to the
    largest; texts are categories, sorted. Cells of missing labels do not count.

    Args:
        table: has all of ``columns``.
        columns: the column of each factor, by the factor's name.
    """
    factors, left_out = [], {}
    for name, column in columns.items():
        try:
            factors.append(_guessed(table, name, column))
        except (DataError, GraphError) as error:
            left_out[name] = str(error).rstrip(".")
    return factors, left_out


def _guessed(table: Table, name: str, column: str) -> Factor:
    """A factor; DataError or GraphError with the reason where the column can be none."""
    labels = known_labels(table, column)
    values = set(labels)
    if len(values) < 2:
        raise DataError(f"every label is {labels[0]!r:.40}" if labels else "it has no label")
    with suppress(DataError):
        read = factor_tensor(table, [Factor(name, "binary")], {name: column}, partial=True)
        if read.nan_to_num(0.0).any() and (read == 0).any():
            return Factor(name, "binary")
    try:
        numbers = {parse_number(text) for text in values}
    except DataError:
        return _categorical(name, values)
    low, high = min(numbers), max(numbers)
    if low == high:
        raise DataError(f"every label is {low:g}")
    whole = all(number.is_integer() for number in numbers) and high - low <= MOST_LEVELS
    kind = "integer" if whole and len(numbers) <= MOST_VALUES else "continuous"
    return Factor(name, kind, low, high)


def _categorical(name: str, values: set[str]) -> Factor:
    if len(values) > MOST_VALUES:
        raise DataError(
            f"it has {len(values)} different texts, such as {min(values)!r:.40}, and a guess takes "
            f"{MOST_VALUES} categories at most"
        )
    return Factor(name, "categorical", categories=tuple(sorted(values)))


def _is_name(text: str) -> bool:
    return text.isidentifier() and len(text) <= LONGEST


def _new_name(heading: str, taken: set[str]) -> str:
    letters = "".join(letter if f"a{letter}".isidentifier() else " " for letter in heading)
    name = sub(r"\s+", "_", letters.strip())[:LONGEST] or "column"
    name = name if name.isidentifier() else f"_{name}"
    numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    return next(new for new in (name, *numbered) if new not in taken)
