"""The parts of a graph's description, from whatever a YAML or JSON file holds, checked.

YAML reads ``yes``, ``on``, ``01`` and ``null`` as true, 1 and nothing. Names and categories are
texts, so graph files are read with their scalars as written (:func:`diffcf.io.load_written`), and
what is a number is decided here. What another reader has already turned into something else is
refused: which text it was cannot be known any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffcf.io import GraphError

MOST_CATEGORIES = 1000
_ABSENT = (None, "", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def given(described: object) -> bool:
    """Whether something is described at all, where YAML may hold an empty or null value."""
    return not (described is None or (isinstance(described, str) and described in _ABSENT))


def factor_settings(name: object, spec: object) -> dict[str, Any]:
    """Arguments of a :class:`Factor` by its description; GraphError for what is none.

    ``spec`` is a mapping of ``kind``, ``range``, ``scale`` and ``categories``, all optional.
    """
    if not isinstance(name, str):
        raise GraphError(f"Factor name {name!r:.100} is not text: quote it.")
    what = f"Factor {name!r:.100}"
    spec = spec if given(spec) else {}
    if not isinstance(spec, Mapping) or set(spec) - {"kind", "range", "scale", "categories"}:
        allowed = "'kind', 'range', 'scale' and 'categories'"
        raise GraphError(f"{what} takes only {allowed}, got {spec!r:.200}.")
    categories = _categories(spec.get("categories"), what)
    low, high = _range(spec.get("range", [0.0, 1.0]), what)
    kind = spec.get("kind", "categorical" if categories else "continuous")
    scale = spec.get("scale", "linear")
    return {"kind": kind, "low": low, "high": high, "categories": categories, "scale": scale}


def _categories(described: object, what: str) -> tuple[str, ...]:
    listed = described if given(described) else []
    if not isinstance(listed, list | tuple) or len(listed) > MOST_CATEGORIES:
        allowed = f"a list of categories, {MOST_CATEGORIES} at most"
        raise GraphError(f"{what} needs {allowed}, got {listed!r:.100}.")
    for category in listed:
        if isinstance(category, bool) or not isinstance(category, str | int):
            raise GraphError(
                f"{what} has the category {category!r:.100}, which is no text: quote it."
            )
    return tuple(map(str, listed))


def _range(described: object, what: str) -> tuple[float, float]:
    if not isinstance(described, list | tuple) or len(described) != 2:
        raise GraphError(f"{what} needs a range [low, high], got {described!r:.100}.")
    low, high = (_number(end, what) for end in described)
    return low, high


def _number(end: object, what: str) -> float:
    text = isinstance(end, str) and _NUMBER.fullmatch(end)
    plain = isinstance(end, int | float) and not isinstance(end, bool)
    try:
        if text or plain:
            return float(end)  # type: ignore[arg-type]
    except OverflowError:
        pass
    raise GraphError(f"{what} needs a range [low, high] of plain numbers, not {end!r:.100}.")
