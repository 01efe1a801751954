"""Tables inside a text: every ``<!-- diffcf tables: pendulum main -->`` … ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from diffcf.tables.results import ResultsError

__all__ = ["refreshed"]

_BEGIN = re.compile(r"^<!-- diffcf tables: (?P<dataset>\S+) (?P<table>\S+) -->\n", re.MULTILINE)
_END = "<!-- end -->"


def refreshed(path: Path, tables: Mapping[tuple[str, str], str]) -> str:
    """The text of a file with its marked blocks replaced; without blocks, the text as it is.

    Args:
        path: of the text, a README say.
        tables: markdown by dataset and table.

    Raises:
        ResultsError: when the file is missing, a block has no end, or there is no such table.
    """
    if not path.is_file():
        raise ResultsError(f"{path} does not exist: name the text whose tables are to be replaced.")
    text = path.read_text(encoding="utf-8")
    parts, rest = [], 0
    for begin in _BEGIN.finditer(text):
        name = f"{begin['dataset']} {begin['table']}"
        end = text.find(_END, begin.end())
        following = _BEGIN.search(text, begin.end())
        if end < 0 or (following and following.start() < end):
            raise ResultsError(f"The block '{name}' of {path} has no end: add a line {_END}.")
        if (begin["dataset"], begin["table"]) not in tables:
            known = ", ".join(" ".join(key) for key in tables)
            raise ResultsError(f"{path} asks for the table '{name}': the results give {known}.")
        parts += [text[rest : begin.end()], tables[begin["dataset"], begin["table"]]]
        rest = end
    return "".join([*parts, text[rest:]])
