"""A full disk, a read-only folder, a failure half-way: the old file stays, one sentence is said."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from small_runs import tiny

from diffcf.commands.main import main
from diffcf.io.errors import OutputError
from diffcf.io.files import whole_file, whole_folder, write_json, write_text
from diffcf.io.tensor_file import read_tensors, write_tensors
from diffcf.reporting.cost import save_figure
from diffcf.reporting.pictures import save_image
from diffcf.training.callbacks.running import WholeFile


def drawn() -> Figure:
    figure = Figure()
    figure.subplots().plot(range(5000), torch.rand(5000))
    return figure


WRITERS: dict[str, Callable[[Path, int], Any]] = {
    "a.ckpt": lambda path, n: WholeFile().save_checkpoint({"x": torch.rand(n)}, path),
    "a.safetensors": lambda path, n: write_tensors({"x": torch.rand(n)}, {"n": n}, path),
    "a.json": lambda path, n: write_json({"x": list(range(n))}, path),
    "a.md": lambda path, n: write_text("x" * 4 * n, path),
    "a.png": lambda path, n: save_image(torch.rand(3, n, n), path),
    "b.png": lambda path, n: save_figure(drawn(), path),
}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond ``size`` bytes, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an OSError, instead of death
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    path, write = tmp_path / name, WRITERS[name]
    write(path, 8)
    old = path.read_bytes()
    with (
        full_disk(len(old) // 2 if name == "b.png" else 4096),
        pytest.raises(OutputError, match=r"cannot be written \(.*\): free some space") as error,
    ):
        write(path, 100_000 if name != "a.png" else 400)
    assert path.read_bytes() == old and os.listdir(tmp_path) == [name]
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    write(path, 16)
    assert os.listdir(tmp_path) == [name]


def test_what_was_there_can_still_be_read(tmp_path: Path) -> None:
    write_tensors({"x": torch.arange(3)}, {"n": 1}, tmp_path / "a.safetensors")
    with full_disk(1000), pytest.raises(OutputError):
        write_tensors({"x": torch.rand(10_000)}, {"n": 2}, tmp_path / "a.safetensors")
    assert read_tensors(tmp_path / "a.safetensors", "weights")[1] == {"n": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_whatever_stops_the_writer_leaves_nothing(tmp_path: Path, error: type) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), whole_file(tmp_path / "a") as unfinished:
        unfinished.write_text("half")
        raise error
    with pytest.raises(error), whole_folder(tmp_path / "f") as folder:
        (folder / "half").touch()
        raise error
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_folder_replaces_a_folder_at_the_end(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with whole_folder(tmp_path / "f") as folder:
            (folder / content).touch()
            assert not (tmp_path / "f" / content).exists()
        assert os.listdir(tmp_path / "f") == [content] and os.listdir(tmp_path) == ["f"]


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "a.part").write_text("half")
    (tmp_path / "f.part").mkdir()
    (tmp_path / "f.part/half").touch()
    write_text("whole", tmp_path / "a")
    with whole_folder(tmp_path / "f") as folder:
        (folder / "whole").touch()
    assert (tmp_path / "a").read_text() == "whole" and os.listdir(tmp_path / "f") == ["whole"]
    assert sorted(os.listdir(tmp_path)) == ["a", "f"]


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch) -> Path:
    """A folder that refuses; by its answers, since a test may be root, whom nothing refuses."""
    refusing = tmp_path / "read_only"
    refusing.mkdir()
    real_open, real_mkdir = io.open, os.mkdir

    def denied(path: Any) -> bool:
        inside = isinstance(path, str | Path) and Path(path).is_relative_to(refusing)
        return inside and Path(path) != refusing

    def open_(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if denied(path) and any(letter in mode for letter in "wxa+"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real_open(path, mode, *args, **kwargs)

    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        if denied(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        real_mkdir(path, *args, **kwargs)

    monkeypatch.setattr(io, "open", open_)
    monkeypatch.setattr("builtins.open", open_)
    monkeypatch.setattr(os, "mkdir", mkdir)
    return refusing


ROOT = Path(__file__).parents[3]
COMMANDS = {
    "graph": ["graph", "pendulum", "--out", "{out}/graph.png"],
    "graph in a new folder": ["graph", "pendulum", "--out", "{out}/new/graph.dot"],
    "counterfactual": ["counterfactual", "pendulum", "{image}", "--do", "light=1", "--steps", "1",
                       "--out", "{out}/answers"],
    "tables": ["tables", "--results", str(ROOT / "experiments/results"), "--out", "{out}"],
    "fit": ["fit", "--config", "{config}", "--trainer.max_steps", "1"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_folder_is_one_sentence(
    read_only: Path, tmp_path: Path, capsys, command
) -> None:
    image, config = tmp_path / "a.png", ""
    save_image(torch.zeros(3, 8, 8), image)
    if command == "fit":
        path = Path(tiny(tmp_path / "run"))
        path.write_text(path.read_text().replace(str(tmp_path / "run"), str(read_only / "run")))
        config = str(path)
    said = {"out": read_only, "image": image, "config": config}
    assert main([part.format(**said) for part in COMMANDS[command]]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diffcf: ")]
    assert len(error) == 1 and "Permission denied" in error[0]
    assert not os.listdir(read_only)


def test_processes_may_share_a_file_and_a_folder(tmp_path: Path) -> None:
    """Each has an unfinished one of its own; of files the last counts, of folders the first."""
    with whole_file(tmp_path / "a", shared=True) as one:
        one.write_text("one")
        with whole_file(tmp_path / "a", shared=True) as other:
            other.write_text("other")
        assert (tmp_path / "a").read_text() == "other"
    assert (tmp_path / "a").read_text() == "one"
    with (
        pytest.raises(OutputError, match="not empty"),
        whole_folder(tmp_path / "f", shared=True) as one,
    ):
        (one / "one").touch()
        with whole_folder(tmp_path / "f", shared=True) as other:
            (other / "other").touch()
    assert os.listdir(tmp_path / "f") == ["other"] and sorted(os.listdir(tmp_path)) == ["a", "f"]
