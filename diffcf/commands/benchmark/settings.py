"""Settings of a benchmark's cells as YAML has them: read, changed by dotted keys, compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from diffcf.io import SettingsError, YamlError, load_yaml

Settings = dict[str, Any]
"""A config, or a part of one, as YAML has it."""


def read_yaml(path: Path, what: str) -> Settings:
    """The mapping in a YAML file; ``what`` it is, for the error."""
    if not os.path.isfile(path):  # which is False, too, for a name that is too long for any file
        raise SettingsError(f"{what} should be in {path}, which does not exist: check the path.")
    try:
        # As LightningCLI reads it: 1e-3 is a number.
        content = load_yaml(path, get_loader("yaml"))
    except YamlError as error:
        raise SettingsError(f"{path} is not YAML: {error}.") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} is not a YAML mapping.")
    return content


def callback_arguments(settings: Settings, name: str) -> Settings:
    """``init_args`` of the callback whose class is called ``name``, to read or to change."""
    return _arguments(settings["trainer"]["callbacks"], name)


def _arguments(callbacks: list[Any], name: str) -> Settings:
    for callback in callbacks:
        path = str(callback.get("class_path")) if isinstance(callback, dict) else ""
        if path.rpartition(".")[2] == name:
            if callback.get("init_args") is None:
                callback["init_args"] = {}
            if not isinstance(found := callback["init_args"], dict):
                raise SettingsError(f"init_args of {name} are by name, not {found!r:.100}.")
            return found
    raise SettingsError(f"The common part of the benchmark has no callback {name}: add it.")


def changed(settings: Settings, changes: Settings) -> Settings:
    """A copy of ``settings`` in which every dotted key of ``changes`` has its value.

    In the list of callbacks, the name of a class stands for its arguments.
    """
    copy = deepcopy(settings)
    for key, value in changes.items():
        *parents, last = str(key).split(".")
        place: Any = copy
        for parent in parents:
            listed = isinstance(place, list)
            place = _arguments(place, parent) if listed else place.setdefault(parent, {})
            if not isinstance(place, dict | list):
                break
        if not isinstance(place, dict):
            raise SettingsError(f"'{key}' cannot be set: {parent} is {place}, not a mapping.")
        place[last] = deepcopy(value)
    return copy


def training_part(settings: Settings) -> Settings:
    """The settings that a training depends on: all but those of the CounterfactualCallback."""
    part = deepcopy(settings)
    callback_arguments(part, "CounterfactualCallback").clear()
    return part


def replaced(value: Any, old: str, new: str) -> Any:
    """``value`` (as JSON has it) with ``old`` replaced by ``new`` in every text within."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {key: replaced(entry, old, new) for key, entry in value.items()}
    if isinstance(value, list):
        return [replaced(entry, old, new) for entry in value]
    return value
