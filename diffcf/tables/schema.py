"""What the tables rely on in a results file, checked once, when it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffcf.graph import CausalGraph, GraphError

__all__ = ["ABLATION", "RECORD", "first_problem"]

Shape = Any
"""A check ``value -> problem or None``; ``{key: shape}``, where a key that ends in ``?`` may be
missing or null; or ``[shape]``, a list of such things."""

_LARGEST = 1e15
_LONGEST = 1000


def first_problem(value: Any, shape: Shape, place: str = "it") -> str | None:
    """What is wrong, as in "images is no whole number"; None when all is as ``shape`` says."""
    if isinstance(shape, dict):
        return _of_mapping(value, shape, place)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is no list"
        named = ((entry, f"{place}[{number}]") for number, entry in enumerate(value))
        return _first(first_problem(entry, shape[0], name) for entry, name in named)
    wrong = shape(value)
    return None if wrong is None else f"{place} {wrong}"


def _of_mapping(value: Any, shape: dict[str, Shape], place: str) -> str | None:
    if not isinstance(value, dict):
        return f"{place} is no mapping"
    for key, part in shape.items():
        name, inside = key.removesuffix("?"), place if place != "it" else ""
        if name not in value or (key.endswith("?") and value[name] is None):
            if not key.endswith("?"):
                return f"{place} lacks {name}"
            continue
        if wrong := first_problem(value[name], part, f"{inside}.{name}".lstrip(".")):
            return wrong
    return None


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)


# --- checks ---


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number"
    return None if abs(value) < _LARGEST else "is not finite, or far too large"


def _count(value: Any) -> str | None:
    whole = type(value) is int and 0 <= value < _LARGEST
    return None if whole else "is no whole number"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) < _LONGEST else "is no short text"


def _mapping(value: Any) -> str | None:
    return None if isinstance(value, dict) else "is no mapping"


def _each(shape: Shape) -> Callable[[Any], str | None]:
    """A mapping of anything to things of one shape."""

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "is no mapping"
        named = ((name, first_problem(entry, shape, "")) for name, entry in value.items())
        return _first(f"holds '{name:.100}', which{wrong}" for name, wrong in named if wrong)

    return check


def _filled(shape: Shape) -> Callable[[Any], str | None]:
    """An empty mapping, or one of this shape."""

    def check(value: Any) -> str | None:
        return None if value == {} else first_problem(value, shape, "is not whole:")

    return check


def _graph(value: Any) -> str | None:
    try:
        CausalGraph.from_dict(value)
    except GraphError as error:
        return f"is no graph ({error})"
    return None


def _callback(value: Any) -> str | None:
    problem = first_problem(value, {"class_path": _text, "init_args?": _mapping}, "is none:")
    if problem or not value["class_path"].endswith(".TrainingBudget"):
        return problem
    return first_problem(value, {"init_args": {"minutes": _number, "clock": _text}}, "is none:")


_RULE = {"rule": _text}
_TRAINER = {"callbacks?": [_callback], "max_steps?": _number}
_TRAINING = {"seconds": _number, "processor_seconds?": _number, "device": _text}
_SAMPLING = {"steps": _number, "guidance?": _RULE, "free?": _RULE}

RECORD: dict[str, Shape] = {
    "metrics": _each(_number),
    "images": _count,
    "readers?": [_text],
    "protocol?": _mapping,
    "cost?": {"images": _count},
    "provenance": {
        "method?": _text,
        "graph?": _graph,
        "device?": _text,
        "training": _filled(_TRAINING),
        "sampling": _SAMPLING,
        "config?": {"trainer?": _TRAINER},
    },
    "benchmark?": {"dataset": _text, "method": _text, "seed": _count, "title?": _text},
}
"""Of ``diffcf test`` and ``diffcf benchmark``."""

ABLATION: dict[str, Shape] = {
    "rows": _each(_each(_number)),
    "provenance": {"images": _count, "device": _text, "split?": _text},
}
"""Of ``diffcf ablate``."""
