"""A benchmark that is killed at any moment goes on, and leaves what is finished as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from grids import ROOT, TOY, change, write_grid
from killing import finished, in_background, killed, until
from small_runs import undrawn

from diffcf.commands.benchmark import runner
from diffcf.commands.benchmark.runner import claimed
from diffcf.commands.main import main
from diffcf.methods.checkpoint import read_checkpoint
from diffcf.reporting.results import find_results, read_record

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
MINUTES = 0.006  # of a cell's training


def two_cells(folder: Path) -> Path:
    """Two seeds of a toy, with a checkpoint every few steps."""
    grid = write_grid(folder, minutes=MINUTES, toy=TOY)
    change(grid, seeds=[0, 1])
    common = yaml.safe_load((folder / "common.yaml").read_text())
    for callback in common["trainer"]["callbacks"]:
        if callback["class_path"].endswith("LastCheckpoint"):
            callback["init_args"]["every_n_train_steps"] = 3
    change(folder / "common.yaml", trainer=common["trainer"])
    return grid


def in_one_process() -> None:
    """Stages run in the runner's process, which knows everything already, and not in new ones."""
    torch.set_num_threads(1)

    def stage(arguments: list[str], log: Path, lock: int, threads: int) -> None:
        with undrawn():
            assert not main(list(arguments))

    runner.run_process = stage


def check(folder: Path, before: dict[Path, bytes]) -> dict[Path, bytes]:
    """Results so far: all whole, and those of before byte for byte; checkpoints are whole too."""
    results = {path: path.read_bytes() for path in folder.glob("results/*/*/*.json")}
    for path, content in before.items():
        assert results[path] == content, f"{path} has changed"
    for path in results:
        read_record(path)
    for checkpoint in folder.rglob("last.ckpt"):
        assert read_checkpoint(checkpoint)["global_step"] > 0
    for run in (folder / "runs/small/toy").glob("*"):
        assert len(list(run.rglob("*.part"))) <= 1
    return results


def done(folder: Path) -> None:
    """Both cells have results that make a table, and nothing is left over."""
    (methods,) = find_results(folder / "results").values()
    assert [record["benchmark"]["seed"] for record in methods[0].records] == [0, 1]
    for record in methods[0].records:
        assert record["provenance"]["training"]["processor_seconds"] >= 0.6 * 60 * MINUTES
    assert not list(folder.rglob("*.part"))


def test_three_kills(tmp_path: Path) -> None:
    """In the first training, in its test, and in the second training."""
    grid, log = two_cells(tmp_path), tmp_path / "log.txt"
    command = ["benchmark", str(grid), "--runs", str(tmp_path / "runs")]
    first, second = (tmp_path / f"runs/small/toy/{seed}" for seed in (0, 1))
    results: dict[Path, bytes] = {}
    for sign in (first / "last.ckpt", first / "trained", second / "last.ckpt"):
        process = in_background(command, log, in_one_process)
        until(sign.exists, process)
        assert killed(process), log.read_text()[-3000:]
        results = check(tmp_path, results)
        with claimed(first) as lock:
            assert lock is not None, "the lock went with the process"
    assert len(results) == 1
    finished(in_background(command, log, in_one_process), log)
    check(tmp_path, results)
    done(tmp_path)


def begun(grid: Path) -> subprocess.Popen[bytes]:
    """The command itself, with processes of its own, as a group."""
    folder = grid.parent
    command = ["benchmark", str(grid), "--runs", str(folder / "runs")]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "diffcf", *command],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


@pytest.mark.slow
def test_ten_kills_of_the_whole_group(tmp_path: Path) -> None:
    grid, draw = two_cells(tmp_path), random.Random(2)
    results: dict[Path, bytes] = {}
    killed_alive = 0
    for _ in range(10):
        process = begun(grid)
        time.sleep(draw.uniform(1, 8))
        # Group and leader share their number; nothing else can have it while it is not waited for,
        # which `poll` would do to a runner that has ended.
        os.killpg(process.pid, signal.SIGKILL)
        killed_alive += process.wait() == -signal.SIGKILL
        results = check(tmp_path, results)
    assert begun(grid).wait(600) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    check(tmp_path, results)
    done(tmp_path)
    assert killed_alive > 3


@pytest.mark.slow
def test_a_training_whose_runner_was_killed_is_not_trained_twice(tmp_path: Path) -> None:
    grid = two_cells(tmp_path)
    first = tmp_path / "runs/small/toy/0"
    process = begun(grid)
    while not (first / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()  # the runner alone: its training lives on, and holds the lock
    process.wait()
    assert begun(grid).wait(600) == 0
    until_free = partial(claimed, first)
    for _ in range(600):
        with until_free() as lock:
            if lock is not None:
                break
        time.sleep(0.1)
    assert begun(grid).wait(600) == 0
    check(tmp_path, {})
    done(tmp_path)
