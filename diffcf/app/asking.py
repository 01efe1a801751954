"""What a visitor sets, as text in the grammar of ``--do``: parsed, joined in one field, shown.

A *setting* is the text of one factor, in native units: ``light=1.35``, ``light+=0.2 if angle<0.3``.
What one step sets is a mapping from factor name to setting; a question is a sequence of these. Text
is what the field, the sliders and a link agree on: each gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffcf.causal import CausalGraph, Change, Do, Factor, parse_do, scaled_do
from diffcf.io import InterventionError, SettingsError

Settings = Mapping[str, str]
"""Factor name → setting."""

SEPARATOR = ";"
LONGEST = 2000  # characters of all that a step sets


def setting(factor: Factor, scaled: float) -> str:
    """The setting of a value in [0, 1] units."""
    native = factor.written(scaled)
    return f"{factor.name}={native:.7g}" if isinstance(native, float) else f"{factor.name}={native}"


def parse_settings(texts: Sequence[str], graph: CausalGraph) -> Settings:
    """Settings, each a text of its own, by factor; what is only blank sets nothing.

    Raises:
        GraphError: for an unknown factor or category.
        InterventionError: for what is not understood, a value beyond its factor's range, a change
            that does not fit it, and a factor that is set twice.
    """
    texts = [text.strip() for text in texts if text.strip()]
    if sum(map(len, texts)) > LONGEST:
        raise InterventionError(f"A step takes {LONGEST} characters at most: set less at once.")
    settings = dict(zip(parse_do(texts, graph), texts, strict=True))
    in_scaled_units(settings, graph)
    return settings


def parse_field(text: str, graph: CausalGraph) -> Settings:
    """As :func:`parse_settings`, of settings joined by ``;``."""
    return parse_settings(text.split(SEPARATOR), graph)


def field_text(settings: Settings) -> str:
    """Settings as :func:`parse_field` reads them."""
    return f"{SEPARATOR} ".join(settings.values())


def in_scaled_units(settings: Settings, graph: CausalGraph) -> Do:
    """Settings as a ``do`` whose values are in [0, 1] units; errors as :func:`parse_settings`."""
    return scaled_do(parse_do(list(settings.values()), graph), graph, "native")


def merged(question: Sequence[Settings]) -> Settings:
    """Everything that the steps of a question set: what a later one sets counts."""
    return {name: text for settings in question for name, text in settings.items()}


def do_text(settings: Settings, graph: CausalGraph) -> str:
    """``do(light = 1.40)``, for people."""
    do = parse_do(list(settings.values()), graph)
    return f"do({', '.join(_shown(f, do[f.name]) for f in graph.factors if f.name in do)})"


def is_change(text: str, graph: CausalGraph) -> bool:
    """Whether a setting is no plain value: what it sets may differ from image to image."""
    (value,) = parse_do([text], graph).values()
    return isinstance(value, Change)


def whole_number(what: str, number: float | None, low: int, high: int) -> int:
    """A number from a field or a link; SettingsError, naming ``what``, for what is none there."""
    if number is None or number % 1 or not low <= number <= high:
        said = "left blank" if number is None else f"{number:g}"
        raise SettingsError(f"The {what} is a whole number from {low} to {high}, not {said}.")
    return int(number)


def _shown(factor: Factor, value: object) -> str:
    name = factor.name.replace("_", " ")
    if isinstance(value, Change):
        return value.text(name)
    if isinstance(value, str):
        return f"{name} = {value}"
    return f"{name} = {factor.text(float(factor.to_scaled(float(value))))}"  # type: ignore[arg-type]
