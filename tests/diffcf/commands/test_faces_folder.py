"""``diffcf faces``: a folder in CelebA's layout, read back by the CelebA data module."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_modules.celeba import CelebADataModule
from data_modules.scenes.faces.scene import CartoonFaces
from diffcf.commands.faces import write_faces
from diffcf.commands.main import main
from diffcf.io.errors import DataError, OutputError


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "celeba"
    assert write_faces(folder, 60)
    return folder


def module(root: Path, name: str, **attributes: str) -> CelebADataModule:
    scene = CartoonFaces(name)  # type: ignore[arg-type]
    data = CelebADataModule(
        root, scene.graph, attributes=attributes or None, scene=scene, batch_size=8
    )
    data.prepare_data()
    data.setup()
    return data


def test_the_layout_is_celebas(root: Path) -> None:
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "60" and "No_Beard" in lines[1].split() and len(lines) == 62
    assert lines[2].split()[0] == "000001.jpg"
    assert Image.open(root / "img_align_celeba/000060.jpg").size == (178, 218)


@pytest.mark.parametrize(
    ("name", "attributes"), [("smile", {}), ("beard", {"Beard": "not No_Beard"})]
)
def test_the_ruler_reads_what_the_tables_say(root: Path, name: str, attributes: dict) -> None:
    data = module(root, name, **attributes)
    assert [data.size_of(stage) for stage in ("train", "val", "test")] == [48, 6, 6]
    for stage in ("train", "test"):
        images = data.images_of(stage, torch.arange(data.size_of(stage)))
        read = data.scene.read(images)
        assert ((read > 0.5) == (data.factors_of(stage) > 0.5)).float().mean() > 0.99


def test_a_folder_is_written_once_and_never_over(root: Path, capsys) -> None:
    before = (root / "img_align_celeba/000001.jpg").stat().st_mtime_ns
    assert not write_faces(root, 60)
    assert (root / "img_align_celeba/000001.jpg").stat().st_mtime_ns == before
    with pytest.raises(DataError):
        write_faces(root, 61)
    assert main(["faces", str(root), "--count", "61"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()[-1:]) == 1


def test_the_command_writes(tmp_path: Path, capsys) -> None:
    assert main(["faces", str(tmp_path / "f"), "--count", "12", "--seed", "3"]) == 0
    assert len(list((tmp_path / "f/img_align_celeba").glob("*.jpg"))) == 12


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="something else"):
        write_faces(tmp_path, 12)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(DataError, match="count must be at least 10"):
        write_faces(tmp_path / "few", 9)


def test_a_folder_that_lost_images_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()  # empty: used
    assert write_faces(tmp_path / "f", 10)
    (tmp_path / "f/img_align_celeba/000004.jpg").unlink()
    with pytest.raises(DataError, match="lost some"):
        write_faces(tmp_path / "f", 10)


def test_a_failed_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffcf.commands.faces._write_lines", full)
    with pytest.raises(OutputError, match="No space left"):
        write_faces(tmp_path / "f", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "attributes"), [("smile", {}), ("beard", {"Beard": "not No_Beard"})]
)
def test_the_pictures_are_their_renders_but_for_jpeg(
    root: Path, name: str, attributes: dict
) -> None:
    data = module(root, name, **attributes)
    for stage in ("train", "test"):  # so rows of a split find their own noise
        images = data.images_of(stage, torch.arange(data.size_of(stage)))
        drawn = data.scene.render(data.factors_of(stage), 64, data.noise_of(stage))
        error = ((drawn - images) / 2).square().mean(dim=(1, 2, 3))
        assert (-10 * error.log10()).min() > 36  # dB


def test_faces_that_were_not_drawn_yet_are_no_missing_celeba(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of drawn faces .* 'diffcf faces .*none'"):
        module(tmp_path / "none", "smile")


def test_without_its_noise_a_face_is_still_data(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "f", ignore=shutil.ignore_patterns("scene_noise.csv"))
    assert module(tmp_path / "f", "smile").noise_of("test") is None


@pytest.mark.parametrize(
    ("row", "column", "new", "told"),
    [
        (4, "image_id", "000099.jpg", "'000003.jpg' has no row in .*scene_noise.csv"),
        (1, "skin_tone", "skin", "skin_tone"),
        (3, "Young", "yes", "row 3, column 'Young': 'yes' is not a number"),
        (3, "skin_tone", "", "row 3, column 'skin_tone': the cell is empty"),
        (3, "size", "inf", "row 3, column 'size': 'inf' is not finite"),
    ],
)
def test_wrong_noise_is_told_by_its_place(
    root: Path, tmp_path: Path, row: int, column: str, new: str, told: str
) -> None:
    shutil.copytree(root, tmp_path / "f")
    file = tmp_path / "f/scene_noise.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    lines[row - 1][lines[0].index(column)] = new
    file.write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(DataError, match=told):
        module(tmp_path / "f", "smile")
