"""A training that is killed at any moment goes on from a whole checkpoint and ends all the same."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from killing import finished, in_background, killed, until
from small_runs import tiny

from diffcf.methods.checkpoint import read_checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
STEPS = 24


def config_of(folder: Path) -> str:
    """A checkpoint after every step, and no validation between."""
    path = Path(tiny(folder, train_size=40))
    config = yaml.safe_load(path.read_text())
    config["trainer"] |= {"max_steps": STEPS, "limit_val_batches": 0, "limit_train_batches": 5}
    for callback in config["trainer"]["callbacks"]:
        if callback["class_path"].endswith("LastCheckpoint"):
            callback["init_args"] |= {"every_n_train_steps": 1}
    path.write_text(yaml.safe_dump(config))
    return str(path)


def prepare(temporary: str, tear: bool = False) -> None:
    """In the run's process: its own folder for temporary files, and perhaps death in a write."""
    torch.set_num_threads(1)
    os.environ["TMPDIR"] = temporary
    tempfile.tempdir = None
    if tear:
        torch.save = die_halfway


def die_halfway(content: object, file, write=torch.save) -> None:
    if file.name.endswith(".part") and not Path(file.name.removesuffix(".part")).exists():
        write(content, file)  # the first one may pass
        return
    file.write(b"PK\x03\x04" + bytes(1000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def check(folder: Path, temporary: Path) -> int:
    """Step of the checkpoint, which is whole if it is there; nothing has piled up."""
    left = [file.name for file in folder.rglob("*.part")]
    assert left in ([], ["last.ckpt.part"])
    assert not list(temporary.iterdir())
    if not (folder / "last.ckpt").exists():
        return 0
    return int(read_checkpoint(folder / "last.ckpt")["global_step"])


def trained_through(folder: Path, kills: int, seed: int) -> list[int]:
    """Train with that many kills, one of them in a write; the step after each."""
    draw = random.Random(seed)
    run, temporary, log = folder / "run", folder / "tmp", folder / "log.txt"
    temporary.mkdir(parents=True)
    command = ["fit", "--config", config_of(run)]
    steps = [0]

    def go(tear: bool = False):
        last = run / "last.ckpt"
        resume = ["--ckpt_path", str(last)] if last.exists() else []
        return in_background([*command, *resume], log, partial(prepare, str(temporary), tear))

    for number in range(kills):
        tear = number == kills // 2
        process, wanted = go(tear), steps[-1] + draw.randint(0, max(1, STEPS // kills - 1))
        if tear:
            process.join()
            assert process.exitcode == -signal.SIGKILL, log.read_text()[-3000:]
        else:
            until(partial(reached, run / "last.ckpt", wanted), process)
            process.join(draw.random() * 0.2)
            killed(process)
        steps.append(check(run, temporary))
    finished(go(), log)
    assert check(run, temporary) == STEPS
    assert not list(run.rglob("*.part")), "what a kill left is gone"
    return steps[1:]


def reached(path: Path, step: int) -> bool:
    """Whether a checkpoint is of ``step`` or later; it is whole at any moment."""
    return step == 0 or (path.exists() and int(read_checkpoint(path)["global_step"]) >= step)


def same_end(one: Path, two: Path) -> None:
    states = [read_checkpoint(path / "run/last.ckpt") for path in (one, two)]
    for part in ("state_dict", "current_model_state"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], value, msg=f"{part} {name}")


def test_two_kills_one_of_them_in_a_write(tmp_path: Path) -> None:
    steps = trained_through(tmp_path, kills=2, seed=0)
    assert steps == sorted(steps) and any(0 < step < STEPS for step in steps)


@pytest.mark.slow
def test_ten_kills_end_where_the_unbroken_run_ends(tmp_path: Path) -> None:
    steps = trained_through(tmp_path / "killed", kills=10, seed=1)
    assert steps == sorted(steps) and len({*steps}) > 3
    trained_through(tmp_path / "whole", kills=0, seed=0)
    same_end(tmp_path / "killed", tmp_path / "whole")


def test_a_training_that_is_asked_to_end_does_not_count_as_whole(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log.txt"
    endless = ["fit", "--config", config_of(run), "--trainer.max_steps", "1000000"]
    process = in_background(endless, log)
    until((run / "last.ckpt").exists, process)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM, log.read_text()[-3000:]
    assert int(read_checkpoint(run / "last.ckpt")["global_step"]) < 1_000_000
