"""Numbers as people write them in tables and commands, read in one way everywhere."""

from __future__ import annotations

import re
from math import isfinite
from typing import TypeGuard

from diffcf.io.errors import DataError

# Python also reads 1_0, digits of any script and "infinity": in a table these are mistakes.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_UNBOUNDED = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}([_ \u00a0\u202f'’][0-9]+)+([.,][0-9]*)?")


def parse_number(text: str) -> float:
    """The finite number that ``text`` writes with the digits 0-9, as in ``-2``, ``.5`` or ``1e-3``.

    Raises:
        DataError: in a sentence, for anything else; it says how to write what was probably meant.
    """
    bare = text.strip()
    if _NUMBER.fullmatch(bare):
        value = float(bare)
        if isfinite(value):
            return value
    elif not _UNBOUNDED.fullmatch(bare):
        raise DataError(f"{text!r} is not a number: {_remedy(bare)}.")
    raise DataError(f"{text!r} is not finite: correct it.")


def _remedy(text: str) -> str:
    if re.fullmatch(r"[+-]?[0-9]+(,[0-9]+)+(\.[0-9]*)?", text):
        return "write a decimal point, not a comma, and thousands without separators"
    if "_" in text or _GROUPED.fullmatch(text):
        return "write its digits without separators"
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", text):
        return "write it in decimal digits"
    if any(letter.isdigit() and not letter.isascii() for letter in text):
        return "write it with the digits 0-9"
    return "correct it"


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer: also one of a parser's own types, but neither True nor 1.0."""
    return isinstance(value, int) and not isinstance(value, bool)
