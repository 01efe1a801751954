"""The names of answers: never another answer's, never our own, never outside the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from stirring import stir

from diffcf.commands.main import main
from diffcf.io.errors import DataError, OutputError
from diffcf.io.image_list import image_files
from diffcf.methods.base import write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_a_folder_gives_its_visible_pictures(tmp_path: Path) -> None:
    touched(tmp_path, "b.PNG", "a.jpg", ".hidden.png", "._a.jpg", "notes.txt")
    assert list(image_files([tmp_path])) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.png", "a.jpg"], "share an answer's name"),
        (["a.png", "A.png"], "share an answer's name"),
        (["é.png", "e\u0301.png"], "share an answer's name"),
        (["sheet.png"], "our own sheet.png"),
        (["Sheet.jpg"], "our own Sheet.png"),
        (["x" * 250 + ".png"], "too long"),
        (["notes.txt"], "There are no images"),
    ],
)
def test_names_that_would_clash_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises((DataError, OutputError), match=said):
        image_files([touched(tmp_path, *names)], taken=["sheet"])


@pytest.fixture
def weights(model: DiffusionCounterfactuals, tmp_path: Path) -> str:
    stir(model)
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(steps=1), tmp_path / "some.safetensors")
    return str(tmp_path / "some.safetensors")


def test_any_file_name_can_be_answered(weights: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    odd = ["a$\\frac$b", "a\nb", "-x", "x" * 230, os.fsdecode(b"\xff\xfe"), "a.part"]
    for name in (*odd, "a"):
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png", "PNG")
    ask = ["counterfactual", weights, str(folder), "--out", str(tmp_path / "out")]
    assert main([*ask, "--do", "light=1"]) == 0
    made = {file.name for file in (tmp_path / "out").iterdir()}
    assert made == {*(f"{name}.png" for name in (*odd, "a")), "factors.json", "sheet.png"}
    assert main([*ask, "--sweep", "light=1:1.2:2", "--overwrite", "true"]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == made - {"sheet.png"}
    Image.new("RGB", (8, 8)).save(tmp_path / "...png", "PNG")  # its stem is ".."
    ask[2] = str(tmp_path / "...png")
    assert main([*ask, "--do", "light=1", "--overwrite", "true"]) == 0
    assert (tmp_path / "out/...png").is_file()
    (tmp_path / "...png").unlink()
    assert sorted(os.listdir(tmp_path)) == ["images", "out", "some.safetensors"]


def test_only_answers_of_ours_are_ever_replaced(weights: str, tmp_path: Path, capsys) -> None:
    home, target = tmp_path / "home", tmp_path / "target"
    for folder in (home, target):
        folder.mkdir()
    Image.new("RGB", (8, 8)).save(home / "a.png")
    (tmp_path / "link").symlink_to(target)
    ask = ["counterfactual", weights, str(home / "a.png"), "--do", "light=1"]
    for out, said in ((home, "something else than answers"), (tmp_path / "link", "exists")):
        assert main([*ask, "--out", str(out), "--overwrite", "true"]) == 2
        assert said in capsys.readouterr().err
    assert (home / "a.png").exists() and target.is_dir()
