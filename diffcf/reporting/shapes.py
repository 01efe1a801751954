"""Shapes of the JSON files that commands write, by which they are checked where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from diffcf.causal import Dag
from diffcf.io import GraphError

Check: TypeAlias = Callable[[object], str]
"""``value -> problem``, as in " is no number"; empty where there is none."""
Shape: TypeAlias = "Check | Mapping[str, Shape] | list[Shape]"
"""A check; ``[shape]``, a list of such things; ``{"*": shape}``, a mapping to such things; or
``{key: shape}``, where a key that ends in ``?`` may be missing or null."""


def first_problem(value: object, shape: Shape) -> str:
    """What is wrong and where, as in ".images is no whole number"; empty when nothing is."""
    if callable(shape):
        return shape(value)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return " is no list"
        return _first_within("[{}]", enumerate(value), shape[0])
    if not isinstance(value, dict):
        return " is no mapping"
    if "*" in shape:
        return _first_within(" holds '{:.100}', which", value.items(), shape["*"])
    for key, part in shape.items():
        name, optional = key.removesuffix("?"), key.endswith("?")
        if name not in value and not optional:
            return f" lacks {name}"
        absent = optional and value.get(name) is None
        if not absent and (problem := first_problem(value[name], part)):
            return f".{name}{problem}"
    return ""


def _first_within(place: str, items: Iterable[tuple[object, object]], shape: Shape) -> str:
    for name, item in items:
        if problem := first_problem(item, shape):
            return place.format(name) + problem
    return ""


def _check(passes: Callable[[object], bool], problem: str) -> Check:
    return lambda value: "" if passes(value) else f" is {problem}"


def _is_number(value: object) -> bool:
    # Neither NaN nor what formats and floats cannot hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_interval(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(end is None or _is_number(end) for end in value)


def _graph(value: object) -> str:
    try:
        Dag.from_dict(value)
    except GraphError as error:
        return f" is no graph ({error})"
    return ""


def _training(value: object) -> str:
    shape: Shape = {"seconds": _NUMBER, "processor_seconds?": _NUMBER, "device": _TEXT}
    known = value is not None and value != {}  # not known to us; untrained
    problem = first_problem(value, shape) if known else ""
    return problem and f" is not whole: it{problem}"


def _callback(value: object) -> str:
    problem = first_problem(value, {"class_path": _TEXT, "init_args?": {}})
    if not problem and isinstance(value, dict) and budget_of(value) is not None:
        problem = first_problem(value, {"init_args": {"minutes": _NUMBER, "clock": _TEXT}})
    return problem and f" is none: it{problem}"


def budget_of(callback: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of a TrainingBudget; None for another callback."""
    budget = callback["class_path"].rpartition(".")[2] == "TrainingBudget"
    return callback.get("init_args", {}) if budget else None


_NUMBER = _check(_is_number, "no finite number, or far too large")
_COUNT = _check(lambda n: _is_number(n) and isinstance(n, int) and n >= 0, "no whole number")
_TEXT = _check(lambda text: isinstance(text, str) and len(text) < 1000, "no short text")
_RULE: Shape = {"rule": _TEXT}
_RULES = ("guidance?", "free?", "feedback?", "change_filter?")

_ONE_TEST: dict[str, Shape] = {
    "metrics": {"*": _NUMBER},
    "intervals?": {"*": _check(_is_interval, "no interval")},
    "images": _COUNT,
    "left_out?": {"*": _COUNT},
    "answers?": {"*": {"given": _COUNT, "asked": _COUNT}},
    "ruler_error?": {"*": _NUMBER},
    "readers?": [_TEXT],
    "protocol?": {},
    "cost?": {"images": _COUNT},
    "provenance": {
        "method?": _TEXT,
        "graph?": _graph,
        "device?": _TEXT,
        "training": _training,
        "sampling": {"steps": _NUMBER, **dict.fromkeys(_RULES, _RULE)},
        "config?": {"trainer?": {"callbacks?": [_callback], "max_steps?": _NUMBER}},
    },
    "benchmark?": {"dataset": _TEXT, "method": _TEXT, "seed": _COUNT, "title?": _TEXT},
}
RECORD: Shape = {**_ONE_TEST, "also?": [_ONE_TEST]}
"""Of ``diffcf test`` and ``diffcf benchmark``; beside weights, ``also`` holds further tests."""

TASK: Shape = {
    "dataset": _TEXT,
    "data": {"class_path": _TEXT, "init_args?": {}},
    "images": _COUNT,
    "size": _COUNT,
    "channels": _COUNT,
    "protocol": {},
    "files": {"*": _TEXT},
    "digest": _TEXT,
}
"""Of ``diffcf score --make``."""

ABLATION: Shape = {
    "rows": {"*": {"*": _NUMBER}},
    "provenance": {"images": _COUNT, "device": _TEXT, "split?": _TEXT},
}
"""Of ``diffcf ablate``."""
