"""Interventions as people write them: ``light=0.8``, ``light+=0.2 if angle<0.3``, ``light~…``.

A text is a factor, an operator and the rest. What the operators and distributions mean is in
:mod:`diffcf.causal.changes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from diffcf.causal.changes import COMPARISONS, Change, Scale, Shift, When
from diffcf.causal.distributions import Bernoulli, Choice, Distribution, Normal, Uniform
from diffcf.causal.factor import Factor
from diffcf.io import DataError, InterventionError, parse_number

T = TypeVar("T")
_TEXT = re.compile(r"([^=~]*?)(\+=|-=|\*=|=|~)(.*)", re.DOTALL)
_CONDITION = re.compile(
    rf"(.*)\sif\s+(\w+)\s*({'|'.join(map(re.escape, COMPARISONS))})(.*)", re.DOTALL
)
_RELATIVE: dict[str, Callable[[float], Change]] = {
    "+=": Shift,
    "-=": lambda by: Shift(-by),
    "*=": Scale,
}
_FORMS = {
    "uniform": "uniform:low:high",
    "normal": "normal:mean:deviation",
    "bernoulli": "bernoulli:probability",
}
_NUMERIC: dict[str, Callable[..., Distribution]] = {
    "uniform": Uniform,
    "normal": Normal,
    "bernoulli": Bernoulli,
}


def split(text: str) -> tuple[str, str, str]:
    """Factor, operator and the rest; InterventionError for what has not all three."""
    found = _TEXT.fullmatch(text)
    name, operator, value = (part.strip() for part in found.groups()) if found else ("", "", "")
    if not name or not value:
        raise InterventionError(f"'{text}' is no intervention: write name=value.")
    return name, operator, value


def understood(value: T, factor: Factor) -> T | float | str | Change:
    """``value`` itself or, of a text such as ``+=0.2`` or ``~uniform:0:1``, what it says."""
    if not isinstance(value, str) or value in factor.categories:
        return value
    found = _TEXT.fullmatch(value)
    if found is None or found[1].strip():
        return value
    return value_of(factor, found[2], found[3].strip(), f"{factor.name}{value}")


def value_of(factor: Factor, operator: str, value: str, text: str) -> float | str | Change:
    """What is set, of a factor and what is written behind it; ``text`` is all of it, for errors.

    InterventionError for what is not understood, GraphError for an unknown category.
    """
    condition = None if value in factor.categories else _CONDITION.fullmatch(value)
    if condition is not None:
        value, cause, comparison, than = (part.strip() for part in condition.groups())
        inner = value_of(factor, operator, value, text)
        return When(inner, cause, comparison, _than(than))
    if operator == "~":
        return _distribution(factor, value, text)
    if operator != "=":
        return _RELATIVE[operator](number(value, text))
    if factor.categories:
        factor.scaled(value)  # or an error that names the categories
        return value
    return number(value, text)


def _than(text: str) -> float | str:
    """A number or, if it is none, a name, for the condition to judge."""
    try:
        return parse_number(text)
    except DataError:
        return text


def _distribution(factor: Factor, value: str, text: str) -> Distribution:
    kind, _, rest = (part.strip() for part in value.partition(":"))
    if kind == "choice":
        names = [name.strip() for name in rest.split(",")]
        return Choice(tuple(n if factor.categories else number(n, text) for n in names))
    if kind not in _FORMS:
        known = ", ".join((*_FORMS.values(), "choice:a,b"))
        raise InterventionError(f"'{text}' draws from no known distribution: write one of {known}.")
    parts, form = rest.split(":"), _FORMS[kind]
    if len(parts) != form.count(":"):
        raise InterventionError(f"'{text}' is no distribution: write {factor.name}~{form}.")
    return _NUMERIC[kind](*(number(part, text) for part in parts))


def number(value: str, text: str) -> float:
    """The number that ``value`` writes; InterventionError, naming all of the ``text``."""
    try:
        return parse_number(value)
    except DataError as error:
        raise InterventionError(f"'{text}': {error}") from None
