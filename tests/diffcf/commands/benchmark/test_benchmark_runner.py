"""``diffcf benchmark`` as a user runs it: killed, gone on with, failing in part, skipped."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from grids import BROKEN, TOY, change, run, write, write_grid
from processes import in_background
from small_runs import draw_nothing

from diffcf.commands.benchmark import runner
from diffcf.commands.benchmark import runner as process
from diffcf.commands.benchmark.runner import claimed
from diffcf.commands.main import main


def kill_at_first_checkpoint(run_folder: Path, children: list[subprocess.Popen[bytes]]) -> None:
    while not children or children[0].poll() is None:
        if (run_folder / "last.ckpt").exists():
            children[0].send_signal(signal.SIGKILL)
            return
        time.sleep(0.01)


def surrounded_by(environment: dict[str, str]) -> None:
    """Give this process the environment, and no pictures to draw.

    Of a module, so that another process finds it.
    """
    os.environ.update(environment)
    draw_nothing(pytest.MonkeyPatch())


class Forked:
    """What ``Popen`` is to the runner, of a process that need not import anything."""

    def __init__(self, command: list[str], *, stdout: Any, env: dict[str, str], **_: Any) -> None:
        before = partial(surrounded_by, dict(env))
        self.process = in_background(command[3:], Path(stdout.name), before)

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode


@pytest.fixture(scope="module")
def killed_and_run(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """A grid of a method that fails and the toy, whose first training is killed with SIGKILL."""
    folder = tmp_path_factory.mktemp("benchmark")
    grid = write_grid(folder, minutes=0.03, broken=BROKEN, toy=TOY | {"title": "a toy"})
    toy = folder / "runs/small/toy/0"
    children: list[subprocess.Popen[bytes]] = []

    def started(command: list[str], _start: Any = subprocess.Popen, **options: Any) -> Any:
        """The first as it is for users, who have the time."""
        if children:
            return Forked(command, **options)
        children.append(_start(command, **options))
        return children[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setattr(process.subprocess, "Popen", started)
        killer = threading.Thread(target=kill_at_first_checkpoint, args=(toy, children))
        killer.start()
        told = {"killed": run(grid, "--only", "toy/0")}
        killer.join()
        steps = torch.load(toy / "last.ckpt", weights_only=True)["global_step"]
        told["list"] = run(grid, "--list")
        told["all"] = run(grid)
    yield {"grid": grid, "folder": folder, "toy": toy, "steps": steps, **told}


def test_a_killed_training_is_reported_and_goes_on(killed_and_run) -> None:
    first, second = killed_and_run["killed"], killed_and_run["all"]
    assert first.status == 1
    assert "[1/1] small toy/0: fit was killed by signal 9" in first.err
    assert killed_and_run["list"].out == "small broken/0\tnew\nsmall toy/0\tbegun\n"
    assert "[2/2] small toy/0: fit, from its last checkpoint" in second.out
    log = (killed_and_run["toy"] / "log.txt").read_text()
    assert "Restored all states from the checkpoint" in log
    record = json.loads((killed_and_run["folder"] / "results/small/toy/0.json").read_text())
    training = record["provenance"]["training"]
    assert training["steps"] > killed_and_run["steps"] >= 20


def test_a_failing_cell_does_not_stop_the_others(killed_and_run) -> None:
    told = killed_and_run["all"]
    assert told.status == 1
    assert "[1/2] small broken/0: fit ended with status 1" in told.err
    assert "there is no paint left" in told.err
    assert told.err.splitlines()[-1] == "diffcf: failed: small broken/0."
    assert (
        "there is no paint left"
        in (killed_and_run["folder"] / "runs/small/broken/0/log.txt").read_text()
    )
    assert not (killed_and_run["folder"] / "results/small/broken").exists()


def test_a_toy_method_is_one_class_and_one_file_away_from_the_table(killed_and_run) -> None:
    file = killed_and_run["folder"] / "results/small/toy/0.json"
    record = json.loads(file.read_text())
    cell = record["benchmark"]
    assert (cell["dataset"], cell["method"], cell["seed"]) == ("small", "toy", 0)
    assert cell["class_path"] == "toy_method.ToyMethod" and cell["title"] == "a toy"
    assert cell["settings"]["data"]["init_args"]["image_size"] == 32
    assert record["provenance"]["seed"] == "0" and record["images"] == 6
    assert record["protocol"]["cycles"] == 2
    assert str(killed_and_run["folder"]) not in file.read_text(), "no path of this machine"
    by_image = pd.read_csv(file.with_suffix(".csv"), index_col="image")
    assert by_image.index.tolist() == list(range(6)) and "acm/roots" in by_image
    for name, scores in by_image.dropna(axis=1).items():
        assert scores.mean() == pytest.approx(record["metrics"][name], rel=1e-3, abs=1e-6), name
    out = killed_and_run["folder"] / "tables"
    assert main(["tables", "--results", str(file.parents[2]), "--out", str(out)]) == 0
    assert "| a toy |" in (out / "small/main.md").read_text().replace("**", "")


def test_a_method_may_be_anothers_training_with_other_settings(killed_and_run, monkeypatch) -> None:
    folder = killed_and_run["folder"]
    again = {"trained_as": "toy", "set": {"sampling": {"steps": 90}, "title": "much"}}
    grid = write(folder / "again.yaml", yaml.safe_load(killed_and_run["grid"].read_text()))
    change(grid, methods={"again": again, "toy": "toy.yaml"})
    assert run(grid, "--list").out == "small again/0\ttrained\nsmall toy/0\tdone\n"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(process.subprocess, "Popen", Forked)
    told = run(grid)
    assert told.status == 0 and "small again/0: test" in told.out and ": fit" not in told.out
    one, other = (
        json.loads((folder / f"results/small/{name}/0.json").read_text())
        for name in ("toy", "again")
    )
    assert one["provenance"]["training"] == other["provenance"]["training"]
    assert other["benchmark"]["method"] == "again" and other["benchmark"]["title"] == "much"
    assert other["provenance"]["sampling"]["steps"] == 90
    assert one["metrics"]["acm/roots"] != other["metrics"]["acm/roots"]
    assert str(folder) not in json.dumps(other), "no path of this machine"


def test_a_done_cell_is_skipped_without_a_process(killed_and_run, monkeypatch) -> None:
    monkeypatch.setattr(runner, "run_process", None)
    grid, folder = killed_and_run["grid"], killed_and_run["folder"]
    told = run(grid, "--only", "toy/0")
    assert told.status == 0 and len(told.out.splitlines()) == 1
    assert "done already, skipped (" in told.out
    toy = folder / "toy.yaml"
    before = toy.read_text()
    change(toy, sampling={"steps": 7})
    try:
        assert "skipped, though its settings were others" in run(grid, "--only", "toy/0").out
    finally:
        toy.write_text(before)


def test_a_terminal_shows_what_the_process_writes(tmp_path, monkeypatch) -> None:
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\nprintf 'one\\rtwo\\r'; sleep 0.3; echo three; echo no >&2; exit 3"
    )
    program.chmod(0o755)
    monkeypatch.setattr(process.sys, "executable", str(program))
    screen = io.BytesIO()
    terminal = io.TextIOWrapper(screen)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    with claimed(tmp_path) as lock, redirect_stdout(terminal):
        assert lock is not None
        with pytest.raises(process.RunError, match="fit ended with status 3") as told:
            process.run_process(["fit"], tmp_path / "log.txt", lock, 1)
    assert screen.getvalue() == b"one\rtwo\rthree\nno\n"
    assert str(told.value).endswith("log.txt:\n    one\n    two\n    three\n    no")
    assert (tmp_path / "log.txt").read_text().endswith("$ diffcf fit\none\ntwo\nthree\nno\n")
