"""How images are drawn, as plain text: what a checkpoint and a weights file say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from diffcf.class_path import class_at
from diffcf.classifier_free import ClassifierFree
from diffcf.counterfactual import Sampling
from diffcf.guidance import Guidance

__all__ = ["SAMPLING_KEY", "sampling_from_spec", "sampling_to_spec"]

SAMPLING_KEY = "diffcf_sampling"
"""Where a checkpoint keeps it."""


def sampling_to_spec(sampling: Sampling) -> dict[str, Any]:
    """Primitive description; :func:`sampling_from_spec` reads it back."""
    rule, free = sampling.guidance, sampling.free
    spec = vars(sampling) | {"guidance": None, "free": None if free is None else vars(free)}
    if rule is not None:
        path = f"{type(rule).__module__}.{type(rule).__qualname__}"
        spec["guidance"] = {"class_path": path, "init_args": dict(vars(rule))}
    return spec


def sampling_from_spec(spec: Mapping[str, Any]) -> Sampling:
    """The sampling that ``spec`` describes.

    Raises:
        ValueError: for keys, values or a guidance rule that do not exist.
    """
    given = dict(spec)
    unknown = set(given) - {field.name for field in fields(Sampling)}
    if unknown:
        raise ValueError(f"Sampling has no {', '.join(sorted(unknown))}.")
    if given.get("guidance") is not None:
        given["guidance"] = _rule(given["guidance"])
    try:
        if given.get("free") is not None:
            given["free"] = ClassifierFree(**given["free"])
        return Sampling(**given)
    except TypeError as error:
        raise ValueError(f"Sampling does not take these settings: {error}.") from None


def _rule(spec: Mapping[str, Any]) -> Guidance:
    path = str(spec.get("class_path", ""))
    rule = class_at(path, Guidance)
    try:
        return rule(**spec.get("init_args", {}))
    except TypeError as error:
        raise ValueError(f"Guidance '{path}' does not take these settings: {error}.") from None
