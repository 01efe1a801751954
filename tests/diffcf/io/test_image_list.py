"""The names of answers: never another answer's, never our own, never outside the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image
from stirring import stir

from diffcf.commands.main import main
from diffcf.io.errors import DataError, OutputError
from diffcf.io.image_list import image_files, mark, pictures, resolve_names
from diffcf.methods import write_weights
from diffcf.methods.diffusion_counterfactuals import DiffusionCounterfactuals
from diffcf.methods.engine import Sampling
from diffcf.reporting import save_figure


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


# --- what is ours ---


def test_by_products_of_ours_are_no_pictures(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    (answers / "uncropped").mkdir(parents=True)
    for folder in (tmp_path, answers):
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        Image.new("RGB", (8, 8)).save(folder / "sheet.png")  # of a user, or older than our mark
    (answers / "factors.json").touch()
    save_figure(Figure(), tmp_path / "grid.png")
    Image.new("RGB", (8, 8)).save(answers / "uncropped/a.png", pnginfo=mark("uncropped"))
    found, ours = pictures(tmp_path, below=True)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == [
        "a.png",
        "answers/a.png",
        "sheet.png",
    ]
    assert {file.relative_to(tmp_path).as_posix() for file in ours} == {
        "answers/sheet.png",
        "answers/uncropped/a.png",
        "grid.png",
    }
    assert list(image_files([answers], ["sheet"])) == ["a"], "answers can be asked about"


# --- inexact names in tables ---


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("000001.png", "000001"),
        ("000001.png", "000001.jpg"),
        ("000001.JPG", "000001.jpg"),
        ("a.tiff", "a.tif"),
        ("scan.2024.png", "scan.2024"),
        ("000001.png", "000001.png"),
        ("sub/000001.png", "sub/000001"),
        ("000001", "000001"),
    ],
)
def test_a_name_stands_for_the_one_picture_called_so(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    touched(tmp_path, file, "000001.txt", ".000001.png", "0000012.png")
    assert resolve_names(tmp_path, [name], ["row 2"]) == [file]


def test_an_exact_name_is_taken_before_others_alike(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "a.jpg")
    assert resolve_names(tmp_path, ["a.png", "a.jpg"], ["row 2", "row 3"]) == ["a.png", "a.jpg"]


def test_inexact_names_that_are_ambiguous_are_one_sentence(tmp_path: Path) -> None:
    touched(tmp_path, "a.png", "a.jpg", "b.png")
    for name in ("a", "a.bmp"):
        with pytest.raises(DataError, match=r"t\.csv row 2\) could be a\.jpg or a\.png: write its"):
            resolve_names(tmp_path, [name], ["t.csv row 2"])
    with pytest.raises(DataError, match="named by row 2 and by row 3: keep one"):
        resolve_names(tmp_path, ["b", "b.jpg"], ["row 2", "row 3"])


def test_a_name_of_nothing_stays_for_whoever_opens_it(tmp_path: Path) -> None:
    names = ["none", "none/a.png", "a\0.png"]
    assert resolve_names(tmp_path, names, names) == names


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
