"""What a benchmark compares: a grid of methods and seeds on one dataset, described in YAML.

A grid names the parts; its paths are relative to it::

    dataset: pendulum
    common: common/pendulum.yaml   # data and trainer, with callbacks: a LightningCLI config;
                                   # or {config: path, set: {...}}, as a method below
    seeds: [0, 1]
    results: ../results            # gets <dataset>/<method>/<seed>.json
    methods:
      ours: methods/ours.yaml      # or with settings of this dataset:
      peer: {config: methods/peer.yaml, set: {model.init_args.learning_rate: 1.0e-3}}
                                   # or another grid's file, whose methods are taken as they are

Where methods differ in what they are trained on, ``set`` holds that as well
(``data.init_args.interventional: 128``); what they are tested on is common to all. A method has::

    model: {class_path: my_package.MyMethod, init_args: {...}}
    sampling: {...}                # arguments of diffcf.methods.Sampling; may be left out
    title: My method               # in tables; may be left out
    search: [{}, {sampling.steps: 50}]   # settings for --search to try; may be left out

A cell of the grid is one method with one seed. Its settings are the union of the parts: one
LightningCLI config, with ``sampling`` put into the CounterfactualCallback of the common part, and
``{run}`` in place of the folder of the run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

from jsonargparse import get_loader

from diffcf.io import SettingsError, YamlError, is_whole, load_yaml

Settings = dict[str, Any]
"""A config, or a part of one, as YAML has it."""

_NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_]")
_GRID = {"dataset", "common", "seeds", "methods", "results"}
_METHOD = ("model", "sampling", "search", "title")
_TRAINED_ON = {
    f"data.init_args.{name}"
    for name in (
        "batch_size", "interventional", "interventional_factors", "interventional_share",
        "labelled_share", "labels", "train_size",
    )
}  # fmt: skip
_NEEDED = ("CounterfactualCallback", "LastCheckpoint", "TrainingBudget")


@dataclass(frozen=True)
class GridMethod:
    """A method; ``settings`` are its ``model`` and ``sampling``, with what the grid sets.

    ``data`` is what it is trained on where that is its own, by dotted key.
    """

    name: str
    title: str | None
    settings: Settings
    search: list[Settings]
    data: Settings

    @classmethod
    def load(cls, name: str, entry: object, folder: Path) -> Self:
        """The method of a grid's entry, a path or ``{config: path, set: {dotted key: value}}``."""
        path, changes = _entry(entry, f"Method {name}", folder)
        data = {key: changes.pop(key) for key in list(changes) if str(key).startswith("data.")}
        if common := ", ".join(sorted(data.keys() - _TRAINED_ON)):
            raise SettingsError(
                f"Method {name} sets {common}, which is for all methods alike: set it in the "
                "common part."
            )
        parts = changed(read_yaml(path, f"Method {name}"), changes)
        if unknown := ", ".join(sorted(map(str, set(parts) - set(_METHOD)))):
            raise SettingsError(f"{path} has {unknown}: a method has {', '.join(_METHOD)} only.")
        model = parts.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
            raise SettingsError(f"{path} names no class: give it a model with class_path.")
        search = parts.pop("search", None) or []
        if not isinstance(search, list) or not all(isinstance(change, dict) for change in search):
            raise SettingsError(f"search of {path} is a list of {{dotted key: value}}.")
        return cls(name, parts.pop("title", None), parts, search, data)


@dataclass(frozen=True)
class GridCell:
    """One method with one seed, to be run in ``folder``; ``results`` exists once it is done."""

    grid: Grid
    method: GridMethod
    seed: int
    settings: Settings
    folder: Path
    results: Path

    @property
    def name(self) -> str:
        return f"{self.method.name}/{self.seed}"

    def __str__(self) -> str:
        return f"{self.grid.dataset} {self.name}"

    def origin(self) -> Settings:
        """What results say of the cell."""
        named = {"dataset": self.grid.dataset, "method": self.method.name, "seed": self.seed}
        return named | {"class_path": str(self.method.settings["model"]["class_path"])}

    @property
    def state(self) -> str:
        """``done``, ``trained``, ``begun`` (there is a checkpoint to go on from) or ``new``."""
        files = {"done": self.results, "trained": self.folder / "trained"}
        files["begun"] = self.folder / "last.ckpt"
        return next((state for state, file in files.items() if file.exists()), "new")


@dataclass(frozen=True)
class Grid:
    """Methods × seeds of training; data and interventions are the same for all."""

    dataset: str
    common: Settings
    seeds: list[int]
    methods: dict[str, GridMethod]
    results: Path

    @classmethod
    def load(cls, path: Path) -> Self:
        """The grid of a file; SettingsError when it is missing, no YAML or lacks a part."""
        parts = read_yaml(path, "Benchmark")
        if set(parts) != _GRID:
            raise SettingsError(f"{path} needs {', '.join(sorted(_GRID))} and nothing else.")
        seeds, methods, origin = parts["seeds"], parts["methods"], path
        if isinstance(methods, str):
            origin = path.parent / methods
            methods = read_yaml(origin, f"Methods of {path}").get("methods")
        usable = isinstance(seeds, list) and all(is_whole(s) and 0 <= s < 2**32 for s in seeds)
        if not usable or not seeds:
            reason = f"a list of whole numbers below 2³², not {seeds!r:.200}"
            raise SettingsError(f"seeds of {path} is {reason}.")
        if not isinstance(methods, dict) or not methods:
            raise SettingsError(
                f"methods of {origin} is a mapping of names to files, or names another grid."
            )
        for name in (parts["dataset"], *methods):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise SettingsError(f"'{name}' in {path} cannot be a folder: take [A-Za-z0-9_.-].")
        return cls(
            parts["dataset"],
            _common(*_entry(parts["common"], "common", path.parent)),
            list(dict.fromkeys(seeds)),
            {name: GridMethod.load(name, entry, origin.parent) for name, entry in methods.items()},
            Path(os.path.normpath(path.parent / str(parts["results"]))),
        )

    def cells(self, runs: Path) -> list[GridCell]:
        """All cells, with their folders under ``runs``."""
        cells = []
        for method, seed in product(self.methods.values(), self.seeds):
            place = Path(self.dataset, method.name)
            folder, results = runs / place / str(seed), self.results / place / f"{seed}.json"
            settings = self.settings(method, seed)
            cells.append(GridCell(self, method, seed, settings, folder, results))
        return cells

    def settings(self, method: GridMethod, seed: int, changes: Settings | None = None) -> Settings:
        """The LightningCLI config of a method and seed, after ``changes`` (dotted keys)."""
        parts = {**self.common, **method.settings, "seed_everything": seed}
        settings = changed(parts, method.data | (changes or {}))
        if (sampling := settings.pop("sampling", None)) is not None:
            callback_arguments(settings, "CounterfactualCallback")["sampling"] = sampling
        # Plain JSON, so that it equals what a results file gives back.
        try:
            return json.loads(json.dumps(settings))
        except (TypeError, ValueError) as error:  # a date, or a number of thousands of digits
            reason = f"are numbers, texts, lists and mappings: {error}"
            raise SettingsError(f"The settings of {method.name} {reason}.") from None


def _entry(entry: object, what: str, folder: Path) -> tuple[Path, Settings]:
    """File and settings of an entry, a path or ``{config: path, set: {dotted key: value}}``."""
    entry = {"config": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not {"config"} <= set(entry) <= {"config", "set"}:
        raise SettingsError(f"{what} is a path, or has config and set, not {entry}.")
    changes = entry.get("set") or {}
    if not isinstance(changes, dict):
        raise SettingsError(f"set of {what} is a mapping of dotted keys, not {changes}.")
    return folder / str(entry["config"]), dict(changes)


def _common(path: Path, changes: Settings) -> Settings:
    """The part that all methods share, after ``changes``, with its protocol read in."""
    common = changed(read_yaml(path, "The common part"), changes)
    trainer = common.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    if "data" not in common or "model" in common or not isinstance(callbacks, list):
        raise SettingsError(f"{path} is a LightningCLI config with data, trainer and no model.")
    for name in _NEEDED:
        callback_arguments(common, name)
    if callback_arguments(common, "LastCheckpoint").get("dirpath") != "{run}":
        raise SettingsError(f"LastCheckpoint of {path} needs dirpath '{{run}}'.")
    measured = callback_arguments(common, "CounterfactualCallback")
    if isinstance(measured.get("protocol"), str):
        measured["protocol"] = read_yaml(path.parent / measured["protocol"], "The protocol")
    return common


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
