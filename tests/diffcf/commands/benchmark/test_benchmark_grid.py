"""The description of a benchmark: what a cell's config is, broken files, and the files we ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from grids import ROOT, TOY, change, write, write_grid

from diffcf.commands.benchmark.grid import Grid
from diffcf.commands.benchmark.settings import callback_arguments
from diffcf.commands.main import main
from diffcf.io.errors import SettingsError

SHIPPED = ROOT / "experiments/benchmarks"
GRIDS = ("pendulum", "flow", "morphomnist")
ALL = sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def described(dataset: str) -> dict[str, Any]:
    """The methods of a grid that we ship, as it or the grid that it names describes them."""
    methods = yaml.safe_load((SHIPPED / f"{dataset}.yaml").read_text())["methods"]
    return described(Path(methods).stem) if isinstance(methods, str) else methods


def test_a_cell_is_the_union_of_its_parts(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, toy=TOY | {"sampling": {"steps": 7}})
    changes = {"model.init_args.clip": 2.0, "sampling.t_max": 0.9, "data.init_args.batch_size": 2}
    change(grid, seeds=[3, 4], methods={"toy": {"config": "toy.yaml", "set": changes}})
    one, two = Grid.load(grid).cells(Path("runs"))
    assert one.settings["model"]["init_args"] == {"learning_rate": 0.01, "clip": 2.0}
    assert one.settings["data"]["init_args"]["batch_size"] == 2
    asked = callback_arguments(one.settings, "CounterfactualCallback")
    assert asked["sampling"] == {"steps": 7, "t_max": 0.9}
    assert asked["protocol"]["cycles"] == 2, "read in, so that the config can lie anywhere"
    assert "sampling" not in one.settings and "search" not in one.settings
    assert (one.settings["seed_everything"], two.settings["seed_everything"]) == (3, 4)
    assert one.folder == Path("runs/small/toy/3")
    assert one.results == tmp_path / "results/small/toy/3.json"


def test_settings_of_the_common_part_hold_for_every_method(tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    changes = {
        "data.init_args.batch_size": 3,
        "trainer.callbacks.CounterfactualCallback.val_images": 5,
    }
    change(grid, common={"config": "common.yaml", "set": changes})
    (cell,) = Grid.load(grid).cells(Path("runs"))
    assert cell.settings["data"]["init_args"]["batch_size"] == 3
    asked = callback_arguments(cell.settings, "CounterfactualCallback")
    assert asked["val_images"] == 5 and asked["protocol"]["cycles"] == 2


def test_methods_may_differ_in_what_they_are_trained_on(tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    more = {"config": "toy.yaml", "set": {"data.init_args.labels": 0.5}}
    change(grid, methods={"toy": "toy.yaml", "more": more})
    cells = Grid.load(grid).cells(Path("runs"))
    data = {cell.method.name: cell.settings["data"] for cell in cells}
    assert "labels" not in data["toy"]["init_args"]
    own = {**data["toy"]["init_args"], "labels": 0.5}
    assert data["more"] == {**data["toy"], "init_args": own}


def test_a_grid_may_have_the_methods_of_another(tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    changes = {"toy": {"config": "toy.yaml", "set": {"model.init_args.clip": 2.0}}}
    change(grid, methods=changes)
    other = tmp_path / "elsewhere/other.yaml"
    other.parent.mkdir()
    parts = yaml.safe_load(grid.read_text())
    write(
        other, parts | {"dataset": "other", "common": "../common.yaml", "methods": "../grid.yaml"}
    )
    (own,), (taken,) = (Grid.load(path).cells(Path("runs")) for path in (grid, other))
    assert taken.settings == own.settings and taken.name == own.name
    assert taken.folder == Path("runs/other/toy/0")


def test_a_method_may_be_one_of_another_grid_with_other_settings(tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    entry = {"config": "toy.yaml", "set": {"model.init_args.clip": 2.0, "title": "first"}}
    change(grid, methods={"toy": entry})
    other = tmp_path / "elsewhere/other.yaml"
    other.parent.mkdir()
    faster = {"model.init_args.learning_rate": 0.5, "title": "second"}
    taken = {
        "same": "../grid.yaml#toy",
        "faster": {"config": "../grid.yaml#toy", "set": faster},
        "again": "other.yaml#faster",
        "measured": {"trained_as": "faster", "set": {"sampling.steps": 3}},
    }
    parts = yaml.safe_load(grid.read_text())
    write(other, parts | {"dataset": "other", "common": "../common.yaml", "methods": taken})
    (own,) = Grid.load(grid).cells(Path("runs"))
    cells = {cell.method.name: cell for cell in Grid.load(other).cells(Path("runs"))}
    assert cells["same"].settings == own.settings and cells["same"].method.title == "first"
    for name in ("faster", "again"):
        assert cells[name].settings["model"]["init_args"] == {"learning_rate": 0.5, "clip": 2.0}
        assert cells[name].method.title == "second"
    assert cells["measured"].training is cells["faster"]
    assert cells["again"].folder == Path("runs/other/again/0")


def _replace(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


BREAKS: dict[str, Any] = {
    "toy.yaml, which does not exist": lambda f: (f / "toy.yaml").unlink(),
    "toy.yaml is not YAML": lambda f: (f / "toy.yaml").write_text("model: [\n"),
    "toy.yaml is not a YAML mapping": lambda f: (f / "toy.yaml").write_text("- model"),
    "toy.yaml names no class": lambda f: write(f / "toy.yaml", {"model": {}}),
    "toy.yaml has trainer: a method has": lambda f: write(f / "toy.yaml", TOY | {"trainer": {}}),
    "search of .*toy.yaml is a list": lambda f: write(f / "toy.yaml", TOY | {"search": {"a": 1}}),
    "class_path is .*, not a mapping": lambda f: change(
        f / "grid.yaml", methods={"toy": {"config": "toy.yaml", "set": {"model.class_path.a": 1}}}
    ),
    "sets data.init_args.test_size, which is for all": lambda f: change(
        f / "grid.yaml",
        methods={"toy": {"config": "toy.yaml", "set": {"data.init_args.test_size": 4}}},
    ),
    "a path, or has config and set": lambda f: change(f / "grid.yaml", methods={"toy": {"a": 1}}),
    "trained as other, which is no method": lambda f: change(
        f / "grid.yaml", methods={"toy": "toy.yaml", "again": {"trained_as": "other"}}
    ),
    "trained as toy, which is no method with": lambda f: change(
        f / "grid.yaml",
        methods={"again": {"trained_as": "toy"}, "toy": {"trained_as": "again"}},
    ),
    "again has trained_as and set": lambda f: change(
        f / "grid.yaml", methods={"toy": "toy.yaml", "again": {"trained_as": "toy", "a": 1}}
    ),
    "none.yaml, which does not exist: check": lambda f: change(
        f / "grid.yaml", methods={"toy": "none.yaml#toy"}
    ),
    "Method toy is grid.yaml#other, but .*grid.yaml describes no": lambda f: change(
        f / "grid.yaml", methods={"toy": "grid.yaml#other"}
    ),
    "grid.yaml#toy, which comes back to itself": lambda f: change(
        f / "grid.yaml", methods={"toy": "grid.yaml#again", "again": "grid.yaml#toy"}
    ),
    "toy of .*grid.yaml is a path": lambda f: change(
        f / "grid.yaml", methods={"again": "grid.yaml#toy", "toy": {"trained_as": "again"}}
    ),
    "common is a path, or has config": lambda f: change(f / "grid.yaml", common=["common.yaml"]),
    "set of common is a mapping": lambda f: change(
        f / "grid.yaml", common={"config": "common.yaml", "set": 3}
    ),
    "no callback Other": lambda f: change(
        f / "grid.yaml",
        common={"config": "common.yaml", "set": {"trainer.callbacks.Other.a": 1}},
    ),
    "callbacks is .*, not a mapping": lambda f: change(
        f / "grid.yaml", common={"config": "common.yaml", "set": {"trainer.callbacks.a": 1}}
    ),
    "seeds of .* is a list": lambda f: change(f / "grid.yaml", seeds=["a"]),
    "methods of .* is a mapping": lambda f: change(f / "grid.yaml", methods=[]),
    "none.yaml, which does not exist": lambda f: change(f / "grid.yaml", methods="none.yaml"),
    "methods of .*grid.yaml is a map": lambda f: change(f / "grid.yaml", methods="grid.yaml"),
    "methods of .*toy.yaml is a map": lambda f: change(f / "grid.yaml", methods="toy.yaml"),
    "cannot be a folder": lambda f: change(f / "grid.yaml", dataset="../up"),
    "nothing else": lambda f: change(f / "grid.yaml", extra=1),
    "no callback TrainingBudget": lambda f: _replace(f, "common.yaml", "TrainingBudget", "Other"),
    "needs dirpath": lambda f: _replace(f, "common.yaml", "dirpath: '{run}'", "dirpath: runs"),
    "with data, trainer and no model": lambda f: change(f / "common.yaml", model={}),
    "protocol.yaml, which does not exist": lambda f: (f / "protocol.yaml").unlink(),
}


@pytest.mark.parametrize("message", BREAKS)
def test_a_broken_description_is_one_clear_error(message: str, tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    BREAKS[message](tmp_path)
    with pytest.raises(SettingsError, match=message):
        Grid.load(grid).cells(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "none/0"], "There is no cell none/0; there are toy/0."),
        (["--search"], "None of these methods lists settings to try: give one a search."),
        (["--threads", "0"], "--threads must be at least 1, not 0."),
    ],
)
def test_what_does_not_exist_is_one_line(options, message, tmp_path, capsys) -> None:
    assert main(["benchmark", str(write_grid(tmp_path)), *options]) == 2
    assert capsys.readouterr().err == f"diffcf: {message}\n"


def test_a_missing_grid_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["benchmark", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml, which does not exist: check the path." in capsys.readouterr().err


# --- the files we ship ---


@pytest.mark.parametrize("dataset", GRIDS)
def test_every_method_meets_the_same_time_data_and_questions(dataset: str) -> None:
    grid = Grid.load(SHIPPED / f"{dataset}.yaml")
    preset = yaml.safe_load((ROOT / f"experiments/{dataset}.yaml").read_text())
    # Methods are compared on one drawing; the preset's weights are to know several.
    preset["data"]["init_args"].pop("train_styles", None)
    assert grid.common["data"] == preset["data"]
    assert callback_arguments(grid.common, "TrainingBudget") == {
        "minutes": 30,
        "clock": "processor",
    }
    protocol = yaml.safe_load((ROOT / "experiments/protocols/benchmark.yaml").read_text())
    pixels = preset["model"]["init_args"]["generator"]["init_args"]
    for cell in grid.cells(Path("runs")):
        asked = callback_arguments(cell.settings, "CounterfactualCallback")
        assert asked["protocol"] == protocol
        generator = cell.settings["model"]["init_args"].get("generator", {})
        if str(generator.get("class_path")).endswith("UNet"):
            for name in ("data_mean", "data_std"):
                assert generator["init_args"][name] == pixels[name], f"{cell} {name}"


@pytest.mark.parametrize("dataset", ALL)
def test_every_search_holds_the_setting_that_is_shipped(dataset: str) -> None:
    grid = Grid.load(SHIPPED / f"{dataset}.yaml")
    for method in grid.methods.values():
        if method.search:
            shipped = grid.settings(method, 0)
            assert any(grid.settings(method, 0, c) == shipped for c in method.search), method.name


def telling_cells() -> list[tuple[str, str]]:
    """Dataset and method of every cell but those that set what a cell before them set."""
    cells: dict[Any, tuple[str, str]] = {}
    for dataset in ALL:
        for name, entry in described(dataset).items():
            config, changes = (entry, {}) if isinstance(entry, str) else entry.values()
            # "ours", of every grid, stands for what the grid's cells have in common.
            seen = (config, *sorted(changes), dataset if name == "ours" else "")
            cells.setdefault(seen, (dataset, name))
    return list(cells.values())


def test_every_method_is_in_a_grid() -> None:
    entries = [entry for dataset in ALL for entry in described(dataset).values()]
    trained = [e for e in entries if isinstance(e, str) or "trained_as" not in e]
    files = {entry if isinstance(entry, str) else entry["config"] for entry in trained}
    assert {Path(file).stem for file in files if "#" not in file} == {
        path.stem for path in (SHIPPED / "methods").glob("*.yaml")
    }


@pytest.mark.parametrize(("dataset", "name"), telling_cells())
def test_the_config_of_each_cell_is_valid(
    dataset: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    grid = Grid.load(SHIPPED / f"{dataset}.yaml")
    config = write(tmp_path / "config.yaml", grid.settings(grid.methods[name], 0))
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(config), "--print_config"])
    assert stop.value.code == 0, capsys.readouterr().err
