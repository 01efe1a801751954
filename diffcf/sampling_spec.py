"""How images are drawn, as plain text: what a checkpoint and a weights file say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

from diffcf.checkpoints import CheckpointError
from diffcf.class_path import class_at, path_of
from diffcf.classifier_free import ClassifierFree
from diffcf.counterfactual import Sampling
from diffcf.guidance import Guidance

__all__ = ["SAMPLING_KEY", "sampling_from_spec", "sampling_of", "sampling_to_spec"]

SAMPLING_KEY = "diffcf_sampling"
"""Where a checkpoint keeps it."""

MOST_STEPS = 10_000


def sampling_to_spec(sampling: Sampling) -> dict[str, Any]:
    """Primitive description; :func:`sampling_from_spec` reads it back."""
    rule, free = sampling.guidance, sampling.free
    spec = vars(sampling) | {"guidance": None, "free": None if free is None else vars(free)}
    if rule is not None:
        spec["guidance"] = {"class_path": path_of(type(rule)), "init_args": dict(vars(rule))}
    return spec


def sampling_from_spec(spec: Mapping[str, Any]) -> Sampling:
    """The sampling that ``spec`` describes.

    Raises:
        ValueError: for keys, values or a guidance rule that do not exist.
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"Sampling is described by its settings, not {spec!r:.100}.")
    given = dict(spec)
    unknown = set(given) - {field.name for field in fields(Sampling)}
    if unknown:
        raise ValueError(f"Sampling has no {', '.join(sorted(map(str, unknown)))}.")
    _check_numbers(given)
    if given.get("guidance") is not None:
        given["guidance"] = _rule(given["guidance"])
    try:
        if given.get("free") is not None:
            given["free"] = ClassifierFree(**_numbers(given["free"]))
        return Sampling(**given)
    except TypeError as error:
        raise ValueError(f"Sampling does not take these settings: {error}.") from None


def sampling_of(spec: Any, path: str | Path) -> Sampling:
    """The sampling that the file at ``path`` describes; CheckpointError where it is wrong."""
    try:
        return sampling_from_spec(spec)
    except ValueError as error:
        raise CheckpointError(f"{path} does not say how to draw: {error}") from None


def _check_numbers(given: Mapping[str, Any]) -> None:
    """ValueError unless steps, depth and switches are what they are called."""
    steps, t_max = given.get("steps", 1), given.get("t_max", 1.0)
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"Sampling takes 1 to {MOST_STEPS} steps, not {steps!r:.100}.")
    if not isinstance(t_max, int | float) or not 0 < t_max <= 1:
        raise ValueError(f"t_max of sampling lies in (0, 1], not {t_max!r:.100}.")
    for name in ("conditional", "mechanisms", "anchored"):
        if not isinstance(given.get(name, True), bool):
            raise ValueError(f"{name} of sampling is true or false, not {given[name]!r:.100}.")


def _numbers(arguments: Any) -> dict[str, Any]:
    """``arguments`` themselves; ValueError unless they are numbers by name."""
    if not isinstance(arguments, Mapping):
        raise ValueError(f"Settings are numbers by name, not {arguments!r:.100}.")
    for name, value in arguments.items():
        known = value is None or isinstance(value, bool)
        if not known and not (isinstance(value, int | float) and isfinite(value)):
            raise ValueError(f"{name} is a finite number, not {value!r:.100}.")
    return dict(arguments)


def _rule(spec: Any) -> Guidance:
    if not isinstance(spec, Mapping):
        raise ValueError(f"Guidance has a class_path, and is not {spec!r:.100}.")
    path = str(spec.get("class_path", ""))
    rule = class_at(path, Guidance)
    try:
        return rule(**_numbers(spec.get("init_args", {})))
    except TypeError as error:
        raise ValueError(f"Guidance '{path}' does not take these settings: {error}.") from None
