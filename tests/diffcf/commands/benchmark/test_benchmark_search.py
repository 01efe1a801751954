"""Hyper-parameter search: shared trainings, the validation split only, nothing chosen by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from grids import TOY, change, write_grid

from diffcf.commands.benchmark import runner
from diffcf.commands.main import main

FASTER = {"model.init_args.learning_rate": 0.02}


@pytest.fixture
def commands(monkeypatch, undrawn) -> list[list[str]]:
    """Every ``diffcf`` command of a search; they run in this process, which saves seconds each."""
    given: list[list[str]] = []

    def here(arguments: list[str], log: Path, lock: int, threads: int) -> None:
        given.append(arguments)
        assert main(arguments) == 0

    monkeypatch.setattr(runner, "run_process", here)
    return given


def test_search_tries_every_setting_on_validation_images(tmp_path, commands, capsys) -> None:
    tried = [{}, {"sampling.steps": 90}, FASTER]
    grid = write_grid(tmp_path, toy=TOY | {"search": tried}, unsearched=TOY)
    options = ["--search", "--search_minutes", "0.002", "--search_images", "4"]
    command = ["benchmark", str(grid), *options, "--runs", str(tmp_path / "runs")]
    assert main(command) == 0
    stages = [arguments[0] for arguments in commands]
    shared = ["fit", "validate", "validate"]
    assert stages == [*shared, "fit", "validate"], "and no test"
    assert {path.name for path in (tmp_path / "results/small").iterdir()} == {"toy"}
    record = json.loads((tmp_path / "results/small/toy/search.json").read_text())
    assert [variant["set"] for variant in record["variants"]] == tried
    scores = [variant["score"] for variant in record["variants"]]
    assert len(set(scores)) == 3
    assert record["choice"] == tried[scores.index(min(scores))]
    for variant in record["variants"]:
        assert variant["score"] == pytest.approx((variant["acm/roots"] + variant["acm/leaves"]) / 2)
        assert variant["images"] == 4
    assert record["split"] == "val" and record["minutes"] == 0.002
    assert str(tmp_path) not in json.dumps(record)
    assert "best is" in capsys.readouterr().out
    # Again, with one more: what was tried is not tried anew.
    change(tmp_path / "toy.yaml", search=[*tried, {"sampling.steps": 5}])
    assert main(command) == 0
    assert [arguments[0] for arguments in commands[5:]] == ["validate"]


def test_settings_of_sampling_are_asked_of_the_whole_training(tmp_path, commands) -> None:
    """How hard a generator is best pressed after a minute says little of after thirty."""
    toy = TOY | {"search": [{}, {"sampling.steps": 90}]}
    grid = write_grid(tmp_path, minutes=0.004, toy=toy)
    change(grid, seeds=[0, 1])
    command = ["benchmark", str(grid), "--only", "toy/1", "--runs", str(tmp_path / "runs")]
    assert main(command) == 0
    assert main([*command, "--search", "--search_images", "4"]) == 0
    assert [arguments[0] for arguments in commands] == ["fit", "test", "validate", "validate"]
    results = tmp_path / "results/small/toy"
    found, cell = (json.loads((results / name).read_text()) for name in ("search.json", "1.json"))
    assert found["minutes"] == 0.004 and found["benchmark"]["seed"] == 1
    for variant in found["variants"]:
        assert variant["training"] == cell["provenance"]["training"]
    (results / "1.json").unlink()
    assert main(command) == 0
    assert commands[4:][0][0] == "test" and len(commands) == 5, "the cell is as it was"
    again = json.loads((results / "1.json").read_text())
    assert again["benchmark"] == cell["benchmark"]
