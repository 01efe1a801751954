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
                                   # or a method of another grid, with what that sets and this:
      fewer: {config: flow.yaml#ours, set: {data.init_args.train_size: 1000}}
                                   # or a training of another, measured with other settings:
      hinted: {trained_as: ours, set: {model.init_args.hints: auto}}
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
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Self, TypeAlias

from diffcf.commands.benchmark.settings import Settings, callback_arguments, changed, read_yaml
from diffcf.io import SettingsError, is_whole

Source: TypeAlias = tuple[Path, Settings]
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

    ``data`` is what it is trained on where that is its own, by dotted key; ``trained_as`` the
    method of which it takes the trainings, and has none of its own.
    """

    name: str
    title: str | None
    settings: Settings
    search: list[Settings]
    data: Settings
    trained_as: str | None = None

    @classmethod
    def load(cls, name: str, entry: object, folder: Path, trained_as: str | None = None) -> Self:
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
        return cls(name, parts.pop("title", None), parts, search, data, trained_as)


@dataclass(frozen=True)
class GridCell:
    """One method with one seed, to be run in ``folder``; ``results`` exists once it is done.

    ``training`` is the cell whose training is measured, where that is another's.
    """

    grid: Grid
    method: GridMethod
    seed: int
    settings: Settings
    folder: Path
    results: Path
    training: GridCell | None = None

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
        folder = (self.training or self).folder
        files = {"done": self.results, "trained": folder / "trained"}
        files["begun"] = folder / "last.ckpt"
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
            {name: _method(name, methods, origin.parent) for name in methods},
            Path(os.path.normpath(path.parent / str(parts["results"]))),
        )

    def cells(self, runs: Path) -> list[GridCell]:
        """All cells, with their folders under ``runs``."""
        cells: dict[tuple[str, int], GridCell] = {}
        # Those that are trained first; afterwards as they are listed.
        for method in sorted(self.methods.values(), key=lambda m: m.trained_as is not None):
            for seed in self.seeds:
                place = Path(self.dataset, method.name)
                folder, results = runs / place / str(seed), self.results / place / f"{seed}.json"
                known = self.settings(method, seed), folder, results
                trained = cells[method.trained_as, seed] if method.trained_as else None
                cells[method.name, seed] = GridCell(self, method, seed, *known, trained)
        return [cells[key] for key in product(self.methods, self.seeds)]

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


def _method(name: str, entries: Settings, folder: Path) -> GridMethod:
    """The method of one entry among others, whose training it may take."""
    entry = entries[name]
    if not isinstance(entry, dict) or "trained_as" not in entry:
        return GridMethod.load(name, entry, folder)
    trained, changes = entry["trained_as"], entry.get("set") or {}
    if set(entry) - {"trained_as", "set"} or not isinstance(changes, dict):
        raise SettingsError(f"Method {name} has trained_as and set, a mapping, and nothing else.")
    other = entries.get(trained) if isinstance(trained, str) else None
    if other is None or (isinstance(other, dict) and "trained_as" in other):
        raise SettingsError(
            f"Method {name} is trained as {trained}, which is no method with a training of its own."
        )
    path, own = _entry(other, f"Method {trained}", folder)
    joined = {"config": str(path), "set": own | changes}
    return GridMethod.load(name, joined, Path(), trained)


def _entry(entry: object, what: str, folder: Path, way: tuple[str, ...] = ()) -> Source:
    """File and settings of an entry, a path or ``{config: path, set: {dotted key: value}}``.

    A path ``grid.yaml#method`` is that grid's entry, whose own settings come first; ``way`` are
    those on which this one was come to.
    """
    entry = {"config": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not {"config"} <= set(entry) <= {"config", "set"}:
        raise SettingsError(f"{what} is a path, or has config and set, not {entry}.")
    changes = entry.get("set") or {}
    if not isinstance(changes, dict):
        raise SettingsError(f"set of {what} is a mapping of dotted keys, not {changes}.")
    config = str(entry["config"])
    grid, mark, name = config.rpartition("#")
    if not mark:
        return folder / config, dict(changes)
    place = os.path.normpath(folder / grid)
    if (step := f"{place}#{name}") in way:
        raise SettingsError(f"{what} is {config}, which comes back to itself: name a file.")
    methods = read_yaml(Path(place), f"Grid of {what}").get("methods")
    if not isinstance(methods, dict) or name not in methods:
        raise SettingsError(f"{what} is {config}, but {place} describes no method '{name}'.")
    path, first = _entry(methods[name], f"{name} of {place}", Path(place).parent, (*way, step))
    return path, first | changes


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
