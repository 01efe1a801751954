"""What a benchmark compares: a grid of methods and seeds on one dataset, described in YAML.

A grid names the parts; its paths are relative to it::

    dataset: pendulum
    common: common/pendulum.yaml   # data and trainer, with callbacks: a LightningCLI config
    seeds: [0, 1]
    results: ../results            # gets <dataset>/<method>/<seed>.json
    methods:
      ours: methods/ours.yaml      # or with settings of this dataset:
      peer: {config: methods/peer.yaml, set: {model.init_args.learning_rate: 1.0e-3}}

and so does a method::

    model: {class_path: my_package.MyMethod, init_args: {...}}
    sampling: {...}                # of diffcf.methods.engine.Sampling; may be left out
    title: My method               # in tables; may be left out
    search: [{}, {sampling.steps: 50}]   # see diffcf.commands.benchmark.command; may be left out

A cell of the grid is their union, one LightningCLI config in which ``{run}`` stands for the folder
of the run. It is made here, on plain dictionaries, so that ``sampling`` can be put into the
CounterfactualCallback of the common part.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jsonargparse import get_loader

from diffcf.io import SettingsError, YamlError, load_yaml

_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_]")
_GRID = {"dataset", "common", "seeds", "methods", "results"}
_NEEDED = ("CounterfactualCallback", "LastCheckpoint", "TrainingBudget")


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: in files and folders.
        title: in tables.
        settings: ``model`` and, where the method has any, ``sampling``, with what the grid sets.
        search: settings to try, each a mapping of dotted keys to values.
    """

    name: str
    title: str | None
    settings: dict[str, Any]
    search: list[dict[str, Any]] = field(default_factory=list)

    @property
    def class_path(self) -> str:
        return str(self.settings["model"]["class_path"])

    @classmethod
    def load(cls, name: str, entry: Any, folder: Path) -> Self:
        """The method of a grid's entry, a path or ``{config: path, set: {dotted key: value}}``."""
        entry = {"config": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not {"config"} <= set(entry) <= {"config", "set"}:
            raise SettingsError(f"Method {name} is a path, or has config and set, not {entry}.")
        path, changes = folder / str(entry["config"]), entry.get("set") or {}
        if not isinstance(changes, dict):
            raise SettingsError(f"set of method {name} is a mapping of dotted keys, not {changes}.")
        parts = read_yaml(path, f"Method {name}")
        if unknown := set(parts) - {"model", "sampling", "search", "title"}:
            raise SettingsError(
                f"{path} has {', '.join(sorted(map(str, unknown)))}: a method has model, sampling, "
                "search and title only."
            )
        model = parts.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
            raise SettingsError(f"{path} names no class: give it a model with class_path.")
        search = parts.pop("search", None) or []
        if not isinstance(search, list) or not all(isinstance(change, dict) for change in search):
            raise SettingsError(f"search of {path} is a list of {{dotted key: value}}.")
        title = parts.pop("title", None)
        return cls(name, title, changed(parts, changes), search)


@dataclass(frozen=True)
class Cell:
    """One method, one seed, one dataset.

    Attributes:
        settings: the LightningCLI config; ``{run}`` stands for ``folder``.
        folder: of the run.
        results: file that holds the results once the cell is done.
    """

    dataset: str
    method: Method
    seed: int
    settings: dict[str, Any]
    folder: Path
    results: Path

    @property
    def name(self) -> str:
        return f"{self.method.name}/{self.seed}"

    def __str__(self) -> str:
        return f"{self.dataset} {self.name}"

    @property
    def state(self) -> str:
        """``done``, ``trained``, ``begun`` (there is a checkpoint to go on from) or ``new``."""
        files = {
            "done": self.results,
            "trained": self.folder / "trained",
            "begun": self.folder / "last.ckpt",
        }
        return next((state for state, file in files.items() if file.exists()), "new")


@dataclass(frozen=True)
class Grid:
    """Methods × seeds on one dataset; see the module's docstring for the file.

    Attributes:
        dataset: name, in files and folders.
        common: LightningCLI config without model.
        seeds: of training; data and interventions are the same for all.
        methods: by name.
        results: folder that gets ``<dataset>/<method>/<seed>.json``.
    """

    dataset: str
    common: dict[str, Any]
    seeds: list[int]
    methods: dict[str, Method]
    results: Path

    @classmethod
    def load(cls, path: Path) -> Self:
        """The grid of a file.

        Raises:
            SettingsError: in one sentence, for a file that is missing, no YAML or lacks a part.
        """
        parts = read_yaml(path, "Benchmark")
        if set(parts) != _GRID:
            raise SettingsError(f"{path} needs {', '.join(sorted(_GRID))} and nothing else.")
        seeds, methods = parts["seeds"], parts["methods"]
        known = isinstance(seeds, list) and seeds
        if not known or not all(type(s) is int and 0 <= s < 2**32 for s in seeds):
            raise SettingsError(
                f"seeds of {path} is a list of whole numbers below 2³², not {seeds!r:.200}."
            )
        if not isinstance(methods, dict) or not methods:
            raise SettingsError(f"methods of {path} is a mapping of names to files.")
        for name in (parts["dataset"], *methods):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise SettingsError(f"'{name}' in {path} cannot be a folder: take [A-Za-z0-9_.-].")
        return cls(
            parts["dataset"],
            _common(path.parent / str(parts["common"])),
            list(dict.fromkeys(seeds)),
            {name: Method.load(name, entry, path.parent) for name, entry in methods.items()},
            Path(os.path.normpath(path.parent / str(parts["results"]))),
        )

    def cells(self, runs: Path) -> list[Cell]:
        """All cells, with their folders under ``runs``."""
        return [
            Cell(
                self.dataset,
                method,
                seed,
                self.settings(method, seed),
                runs / self.dataset / method.name / str(seed),
                self.results / self.dataset / method.name / f"{seed}.json",
            )
            for method in self.methods.values()
            for seed in self.seeds
        ]

    def settings(
        self, method: Method, seed: int, changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The LightningCLI config of a method and seed, after ``changes`` (dotted keys)."""
        parts = {**self.common, **method.settings, "seed_everything": seed}
        settings = changed(parts, changes or {})
        sampling = settings.pop("sampling", None)
        if sampling is not None:
            callback_arguments(settings, "CounterfactualCallback")["sampling"] = sampling
        # Plain JSON, so that it equals what a results file gives back.
        try:
            return json.loads(json.dumps(settings))
        except (TypeError, ValueError) as error:  # a date, or a number of thousands of digits
            raise SettingsError(
                f"The settings of {method.name} are numbers, texts, lists and mappings: {error}."
            ) from None


def _common(path: Path) -> dict[str, Any]:
    """The part that all methods share, with its protocol read in."""
    common = read_yaml(path, "The common part")
    trainer = common.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    if "data" not in common or "model" in common or not isinstance(callbacks, list):
        raise SettingsError(f"{path} is a LightningCLI config with data, trainer and no model.")
    for name in _NEEDED:
        callback_arguments(common, name)
    if callback_arguments(common, "LastCheckpoint").get("dirpath") != "{run}":
        raise SettingsError(f"LastCheckpoint of {path} needs dirpath '{{run}}'.")
    asked = callback_arguments(common, "CounterfactualCallback")
    if isinstance(asked.get("protocol"), str):
        asked["protocol"] = read_yaml(path.parent / asked["protocol"], "The protocol")
    return common


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; ``what`` it is, for the error."""
    if not _is_file(path):
        raise SettingsError(f"{what} should be in {path}, which does not exist: check the path.")
    try:
        # As LightningCLI reads it: 1e-3 is a number.
        content = load_yaml(path, get_loader("yaml"))
    except YamlError as error:
        raise SettingsError(f"{path} is not YAML: {error}.") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path} is not a YAML mapping.")
    return content


def callback_arguments(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``init_args`` of the callback whose class is called ``name``, to read or to change."""
    for callback in settings["trainer"]["callbacks"]:
        if isinstance(callback, dict) and _class_name(callback) == name:
            arguments = callback.get("init_args")
            callback["init_args"] = {} if arguments is None else arguments
            if not isinstance(callback["init_args"], dict):
                raise SettingsError(f"init_args of {name} are by name, not {arguments!r:.100}.")
            return callback["init_args"]
    raise SettingsError(f"The common part of the benchmark has no callback {name}: add it.")


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``settings`` in which every dotted key of ``changes`` has its value."""
    copy = deepcopy(dict(settings))
    for key, value in changes.items():
        *parents, last = str(key).split(".")
        place: Any = copy
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SettingsError(f"'{key}' cannot be set: {parent} is {place}, not a mapping.")
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
