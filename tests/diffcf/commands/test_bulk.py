"""Whole folders of images: however a run ends, nothing answered is lost."""

from __future__ import annotations

import json
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import in_background, killed
from stirring import stir
from torch import Tensor

from diffcf.commands import counterfactual as command
from diffcf.commands.main import main
from diffcf.io import answer_table
from diffcf.io.answer_folder import AnswerFolder
from diffcf.io.errors import OutputError
from diffcf.io.streaming import AHEAD, BEHIND
from diffcf.io.tables import read_table
from diffcf.methods import write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.reporting.pictures import save_image

COUNT = 7
SEQUENCE = ["--do", "light=1.2", "--then", "angle=0.1", "--uncrop", "true"]
SWEEP = ["--sweep", "light=1:1.2:2", "--uncrop", "true"]


@pytest.fixture
def ask(model: DiffusionCounterfactuals, small_batch: dict[str, Tensor], tmp_path: Path) -> Any:
    """Arguments of a question about a folder of images, two at once, for an answer at a place."""
    stir(model)
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(steps=1), tmp_path / "some.safetensors")
    (tmp_path / "images").mkdir()
    for place, image in enumerate(small_batch["image"][:COUNT]):
        save_image(image, tmp_path / f"images/{place}.png")
    start = ["counterfactual", str(tmp_path / "some.safetensors"), str(tmp_path / "images")]

    def arguments(*options: str, out: str = "out") -> list[str]:
        return [*start, "--batch_size", "2", *options, "--out", str(tmp_path / out)]

    return arguments


def content(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def stamps(folder: Path) -> dict[str, int]:
    """When each file was written: answers that are kept are not written again."""
    return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.png")}


def at_note(number: int, action: Callable[[], None]) -> Callable:
    """``AnswerFolder.note``, with an action before the lines of batch ``number``, from 0."""
    noted, batches = AnswerFolder.note, iter(range(1000))

    def note(self: AnswerFolder, answered: Any) -> None:
        if next(batches) == number:
            action()
        noted(self, answered)

    return note


def die() -> None:
    """In the run's process: killed when the files of the last batch lie there, and no line."""
    torch.set_num_threads(1)
    AnswerFolder.note = at_note(3, lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[method-assign]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(ask: Any, tmp_path: Path) -> None:
    assert main(ask(*SEQUENCE, out="unbroken")) == 0
    process = in_background(ask(*SEQUENCE), tmp_path / "log.txt", die)
    process.join(300)
    assert killed(process), (tmp_path / "log.txt").read_text()[-3000:]
    part = tmp_path / "out.part"
    assert not (tmp_path / "out").exists() and (part / "answers/6_1.png").is_file()
    # A power cut may tear the last line, and an answer.
    lines = part / "answered-0.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    (part / "answers/3_1.png").write_bytes(b"")
    first = {name: at for name, at in stamps(part).items() if name[0] in "01s"}
    assert main(ask(*SEQUENCE)) == 0
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")
    assert first.items() <= stamps(tmp_path / "out").items(), "what is whole is not drawn again"
    assert not part.exists()


def test_answers_are_kept_where_an_image_cannot_be_read(ask: Any, tmp_path: Path, capsys) -> None:
    assert main(ask(*SEQUENCE, out="unbroken")) == 0
    broken, part = tmp_path / "images/4.png", tmp_path / "out.part"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:300])
    capsys.readouterr()
    assert main(ask(*SEQUENCE)) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"4 of 7 images are answered, and kept in {part}")
    assert said[1].startswith(f"diffcf: Image {broken} cannot be read") and len(said) == 2
    kept = stamps(part)
    assert {name[0] for name in kept} == {*"0123s"}
    # It is left out, and then another is put in its place.
    broken.unlink()
    assert main(ask(*SEQUENCE)) == 0
    assert not [name for name in content(tmp_path / "out") if name.startswith("4")]
    assert kept.items() <= stamps(tmp_path / "out").items()
    broken.write_bytes(whole)
    assert main(ask(*SEQUENCE, "--overwrite", "true")) == 0
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def interrupt() -> None:
    raise KeyboardInterrupt


def full() -> None:
    raise OutputError("out cannot be written (No space left on device): free some space.")


@pytest.mark.parametrize(
    ("options", "stop", "status", "count"),
    [(SEQUENCE, interrupt, 130, 4), (SWEEP, full, 2, 2)],
    ids=["Ctrl-C", "a full disk in a sweep"],
)
def test_answers_are_kept_where_the_run_is_stopped(
    ask: Any, tmp_path: Path, monkeypatch, capsys, options: list[str], stop: Any, status: int,
    count: int,
) -> None:  # fmt: skip
    assert main(ask(*options, out="unbroken")) == 0
    with monkeypatch.context() as patch:
        patch.setattr(AnswerFolder, "note", at_note(2, stop))
        try:
            assert main(ask(*options)) == status
        except SystemExit as end:
            assert end.code == status
    assert f"{count} of 7 images are answered, and kept" in capsys.readouterr().err
    kept = {n: at for n, at in stamps(tmp_path / "out.part").items() if n[0] in "0123"[:count]}
    assert main(ask(*options)) == 0
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")
    assert kept and kept.items() <= stamps(tmp_path / "out").items()


def test_another_question_does_not_take_over_the_answers(
    ask: Any, tmp_path: Path, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(AnswerFolder, "note", at_note(2, full))
        assert main(ask("--do", "light=1.2")) == 2
    for options, other in (
        (["--do", "light=1"], "do"),
        (["--do", "light=1.2", "--steps", "2"], "sampling"),
        (["--do", "light=.5", "--seed", "3", "--units", "scaled"], "units, do, seed"),
    ):
        capsys.readouterr()
        assert main(ask(*options)) == 2
        said = capsys.readouterr().err
        assert f"answers to another question (another {other})" in said and said.count("\n") == 1
    assert main(ask("--do", "light=1", "--overwrite", "true")) == 0
    assert json.loads((tmp_path / "out/factors.json").read_text())["do"] == ["light=1"]
    assert sorted(os.listdir(tmp_path)) == ["images", "out", "some.safetensors"]


class Pixels(np.ndarray):
    """An array that can be watched."""


def test_memory_does_not_grow_with_the_number_of_images(
    ask: Any, tmp_path: Path, monkeypatch
) -> None:
    """Counts decoded images and drawn batches that are alive at once."""
    for place in range(COUNT, 40):
        (tmp_path / f"images/{place}.png").write_bytes((tmp_path / "images/1.png").read_bytes())
    alive, most = {"decoded": 0, "drawn": 0}, {"decoded": 0, "drawn": 0}

    def change(kind: str, by: int) -> None:
        alive[kind] += by
        most[kind] = max(most[kind], alive[kind])

    def watched(kind: str, made: Any) -> Any:
        change(kind, 1)
        weakref.finalize(made, change, kind, -1)
        return made

    decode, draw = command.decode, command.draw
    monkeypatch.setattr(
        command, "decode", lambda *a, **k: watched("decoded", decode(*a, **k).view(Pixels))
    )
    monkeypatch.setattr(command, "draw", lambda *a: watched("drawn", draw(*a)))
    assert main(ask("--do", "light=1.2")) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 41
    assert 2 <= most["decoded"] <= 2 * (AHEAD + 2) and 1 <= most["drawn"] <= BEHIND + 2


@pytest.mark.parametrize("options", [["--do", "light=1.2"], SWEEP], ids=["do", "sweep"])
def test_rows_of_many_images_are_a_table(
    ask: Any, tmp_path: Path, monkeypatch, options: list[str]
) -> None:
    pytest.importorskip("pyarrow")
    assert main(ask(*options, out="few")) == 0
    monkeypatch.setattr(answer_table, "MOST_IN_JSON", COUNT - 1)
    assert main(ask(*options)) == 0
    few, many = (json.loads((tmp_path / n / "factors.json").read_text()) for n in ("few", "out"))
    assert many.pop("images") == "factors.parquet"
    rows = few.pop("images")
    assert few == many
    columns = [f"target.{name}" for name in few["factors"]]
    table = read_table(tmp_path / "out/factors.parquet", ["image", *columns])
    listed = [row for each in rows.values() for row in (each if "--sweep" in options else [each])]
    assert [row["target"][0] for row in listed] == [
        list(row) for row in zip(*(table.columns[name] for name in columns), strict=True)
    ]
    # It can be given back: what was read is then told.
    if "--sweep" not in options:
        headings = json.dumps({name: f"factual.{name}" for name in few["factors"]})
        given = ["--factors", str(table.file), "--columns", headings]
        assert main(ask(*options, *given, out="again")) == 0
