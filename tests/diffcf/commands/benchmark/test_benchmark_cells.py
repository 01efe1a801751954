"""What happens between the stages of a cell: resuming, skipping, locking; no stage really runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from grids import TOY, change, run, write_grid

from diffcf.commands.benchmark import runner
from diffcf.commands.benchmark.grid import Grid
from diffcf.commands.benchmark.runner import claimed


@pytest.fixture
def stages(monkeypatch) -> list[str]:
    """The stages that are run, each of which does nothing but leave its file."""
    done: list[str] = []

    def pretend(arguments: list[str], log: Path, lock: int, threads: int) -> None:
        resumed = any(a.startswith("--ckpt_path") for a in arguments) and arguments[0] == "fit"
        done.append(arguments[0] + (" on" if resumed else ""))
        if arguments[0] == "fit":
            (log.parent / "last.ckpt").touch()
        else:
            metrics = log.parent / "test/counterfactuals/test/metrics.json"
            metrics.parent.mkdir(parents=True, exist_ok=True)
            metrics.write_text('{"metrics": {}}')
            metrics.with_name("images.csv").write_text("image\n")

    monkeypatch.setattr(runner, "run_process", pretend)
    return done


@pytest.mark.parametrize(
    ("left", "state", "then"),
    [
        ([], "new", ["fit", "test"]),
        (["config.yaml"], "new", ["fit", "test"]),
        (["config.yaml", "last.ckpt"], "begun", ["fit on", "test"]),
        (["config.yaml", "last.ckpt", "trained"], "trained", ["test"]),
    ],
)
def test_a_cell_goes_on_from_wherever_it_was_stopped(
    tmp_path: Path, stages: list[str], left: list[str], state: str, then: list[str]
) -> None:
    grid = write_grid(tmp_path)
    assert run(grid).status == 0 and stages == ["fit", "test"]
    stages.clear()
    cell = Grid.load(grid).cells(tmp_path / "runs")[0]
    assert run(grid, "--list").out == "small toy/0\tdone\n"
    cell.results.unlink()
    for name in {"config.yaml", "last.ckpt", "trained"} - set(left):
        (cell.folder / name).unlink()
    assert run(grid, "--list").out == f"small toy/0\t{state}\n"
    assert run(grid).status == 0 and stages == then
    assert json.loads(cell.results.read_text())["benchmark"]["settings"] == cell.settings


def test_a_training_of_other_settings_is_not_gone_on_with(tmp_path, stages) -> None:
    grid = write_grid(tmp_path)
    assert run(grid).status == 0
    Grid.load(grid).cells(tmp_path / "runs")[0].results.unlink()
    change(tmp_path / "toy.yaml", sampling={"steps": 7})
    assert run(grid).status == 0 and stages == ["fit", "test", "test"], "sampling needs no training"
    Grid.load(grid).cells(tmp_path / "runs")[0].results.unlink()
    change(tmp_path / "toy.yaml", model=TOY["model"] | {"init_args": {"learning_rate": 0.02}})
    told = run(grid)
    assert told.status == 1 and "holds a training with other settings" in told.err
    assert len(stages) == 3


def test_a_cell_that_another_runner_holds_is_skipped(tmp_path, stages) -> None:
    grid = write_grid(tmp_path)
    change(grid, seeds=[0, 1])
    with claimed(tmp_path / "runs/small/toy/0"):
        told = run(grid)
    assert "[1/2] small toy/0: another runner is at it, skipped" in told.out
    assert told.status == 0 and stages == ["fit", "test"]
    assert run(grid, "--list").out == "small toy/0\tnew\nsmall toy/1\tdone\n"
    run(grid)
    assert stages == ["fit", "test"] * 2, "the lock is let go"


@pytest.mark.skipif(os.name != "posix", reason="descriptors are inherited on POSIX only")
def test_a_training_that_outlives_its_runner_keeps_the_lock(tmp_path) -> None:
    with claimed(tmp_path) as lock:
        assert lock is not None
        orphan = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        with claimed(tmp_path) as lock:
            assert lock is None
    finally:
        orphan.kill()
        orphan.wait()
    with claimed(tmp_path) as lock:
        assert lock is not None


def test_only_chooses_by_method_or_cell(tmp_path, stages) -> None:
    grid = write_grid(tmp_path, other=TOY)
    change(grid, seeds=[3, 4])
    listed = run(grid, "--list", "--only", "toy", "--only", "other/4").out
    assert [line.split("\t")[0] for line in listed.splitlines()] == [
        "small other/4",
        "small toy/3",
        "small toy/4",
    ]
    assert run(grid, "--only", "toy/4").status == 0 and stages == ["fit", "test"]
    assert (tmp_path / "results/small/toy/4.json").exists()
