"""Interventions as they are written in a shell: ``light=0.8``, ``shape=cube``, ``light=0:1:9``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffcf.graph import CausalGraph
from diffcf.intervention import Do, InterventionError

__all__ = ["parse_do", "parse_sweep"]

LONGEST = 1000
"""Steps of a sweep."""


def parse_do(texts: Sequence[str], graph: CausalGraph) -> Do:
    """``name=value`` for each factor that is set; categories by name.

    Raises:
        InterventionError: for what is not of this form, and a factor that is set twice.
        GraphError: for an unknown factor or category.
    """
    do: dict[str, float | str] = {}
    for text in texts:
        name, value = _split(text)
        factor = graph.factors[graph.column(name)]
        if name in do:
            raise InterventionError(f"'{text}' sets {name} a second time: set it once.")
        if factor.categories:
            factor.scaled(value)  # or an error that names the categories
            do[name] = value
        else:
            do[name] = _number(value, text)
    return do


def parse_sweep(text: str, graph: CausalGraph) -> tuple[str, list[float] | list[str]]:
    """``name=first:last:count``, or ``name`` alone for all categories of a categorical factor.

    Raises:
        InterventionError: for what is not of this form.
        GraphError: for an unknown factor.
    """
    if "=" not in text:
        factor = graph.factors[graph.column(text.strip())]
        if factor.categories:
            return factor.name, list(factor.categories)
    name, value = _split(text)
    graph.column(name)
    parts = value.split(":")
    if len(parts) != 3:
        raise InterventionError(f"'{text}' is no sweep: write name=first:last:count.")
    first, last, count = (_number(part, text) for part in parts)
    if count != int(count) or not 2 <= count <= LONGEST:
        raise InterventionError(f"'{text}' takes 2 to {LONGEST} steps, not {parts[2]}.")
    # Weighted ends, since the difference of two large numbers may not be a number.
    parts_of_way = (k / (int(count) - 1) for k in range(int(count)))
    return name, [first * (1 - part) + last * part for part in parts_of_way]


def _split(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value:
        raise InterventionError(f"'{text}' is no intervention: write name=value.")
    return name, value


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise InterventionError(f"'{text}': {value!r} is not a number.") from None
    if not math.isfinite(number):
        raise InterventionError(f"'{text}': {value!r} is not a finite number.")
    return number
