"""Settings as plain dictionaries: read from YAML, changed by dotted keys, told their folder."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import get_loader

from diffcf.yaml_file import YamlError, load_yaml

__all__ = [
    "BenchmarkError",
    "callback_arguments",
    "changed",
    "placed",
    "read_yaml",
    "replaced",
    "training_part",
]


class BenchmarkError(ValueError):
    """The description of a benchmark is missing, broken or contradicts itself."""


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; ``what`` it is, for the error."""
    if not _is_file(path):
        raise BenchmarkError(f"{what} should be in {path}, which does not exist: check the path.")
    try:
        # As LightningCLI reads it: 1e-3 is a number.
        content = load_yaml(path, get_loader("yaml"))
    except YamlError as error:
        raise BenchmarkError(f"{path} is not YAML: {error}.") from None
    if not isinstance(content, dict):
        raise BenchmarkError(f"{path} is not a YAML mapping.")
    return content


def callback_arguments(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``init_args`` of the callback whose class is called ``name``, to read or to change."""
    for callback in settings["trainer"]["callbacks"]:
        if isinstance(callback, dict) and _class_name(callback) == name:
            arguments = callback.get("init_args")
            callback["init_args"] = {} if arguments is None else arguments
            if not isinstance(callback["init_args"], dict):
                raise BenchmarkError(f"init_args of {name} are by name, not {arguments!r:.100}.")
            return callback["init_args"]
    raise BenchmarkError(f"The common part of the benchmark has no callback {name}: add it.")


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``settings`` in which every dotted key of ``changes`` has its value."""
    copy = deepcopy(dict(settings))
    for key, value in changes.items():
        *parents, last = str(key).split(".")
        place: Any = copy
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BenchmarkError(f"'{key}' cannot be set: {parent} is {place}, not a mapping.")
        place[last] = deepcopy(value)
    return copy


def training_part(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a training depends on: all but how counterfactuals are drawn and asked."""
    part = deepcopy(dict(settings))
    callback_arguments(part, "CounterfactualCallback").clear()
    return part


def placed(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a run in ``folder``, for which ``{run}`` stands."""
    return replaced(dict(settings), "{run}", str(folder))


def replaced(value: Any, old: str, new: str) -> Any:
    """``value`` with ``old`` replaced in every text within."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {key: replaced(entry, old, new) for key, entry in value.items()}
    if isinstance(value, list):
        return [replaced(entry, old, new) for entry in value]
    return value


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


def _class_name(described: Mapping[str, Any]) -> str:
    return str(described.get("class_path")).rpartition(".")[2]
