"""The image cache: right order, built once, never half-built, one clear error per bad file."""

import os
import pickle
import time
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import in_two

from data_modules.image_cache import CachedImages, open_cache
from data_modules.loading import FactorImages, evaluation_loader, training_loader
from diffcf.io.errors import DataError, OutputError
from diffcf.io.files import ABANDONED
from diffcf.io.transform import ImageTransform


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of one colour each, the colour telling their place."""
    for place in range(5):
        Image.new("RGB", (9, 12), (place * 50, 10, 200)).save(tmp_path / f"{place}.png")
    return tmp_path


def opened(folder: Path, form: ImageTransform | None = None, count: int = 5) -> CachedImages:
    files = [f"{place}.png" for place in range(count)]
    origin = [f"table.csv row {place + 2}" for place in range(count)]
    return open_cache(folder, files, origin, form or ImageTransform(8), folder / "cache")


def caches(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


def test_rows_are_the_files_in_order(folder: Path) -> None:
    images = opened(folder)
    assert images.shape == (5, 3, 8, 8) and len(images) == 5 and images.dtype == torch.uint8
    rows = torch.tensor([3, 0, 3])
    assert images[rows][:, 0, 0, 0].tolist() == [150, 0, 150]
    with pytest.raises(IndexError):
        images[torch.tensor([5])]


def test_batches_hold_the_images_that_their_index_names(folder: Path) -> None:
    factors = torch.arange(5.0).unsqueeze(1) / 4
    dataset = FactorImages(opened(folder), factors, torch.tensor([4, 2, 1, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = [*training_loader(dataset, 2, 0, seed=3), *evaluation_loader(dataset, 3, 0)]
    assert [len(batch["image"]) for batch in batches] == [2, 2, 3, 1]
    for batch in batches:
        assert batch["image"].dtype == torch.float32
        red = (batch["image"][:, 0, 0, 0] + 1) * 127.5
        torch.testing.assert_close(red, batch["factors"][:, 0] * 200)
        assert torch.equal(batch["factors"], dataset.factors[dataset.index[batch["index"]]])


def test_a_cache_is_picklable_and_small(folder: Path) -> None:
    images = opened(folder)
    text = pickle.dumps(images)
    assert len(text) < 1000
    rows = torch.arange(5)
    assert torch.equal(pickle.loads(text)[rows], images[rows])


def test_reading_keeps_nothing_of_the_file_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "big.npy"
    np.lib.format.open_memmap(file, "w+", np.uint8, (4000, 3, 64, 64))[:] = 7  # 47 MiB
    images = CachedImages(file, (4000, 3, 64, 64))

    def mapped() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0])

    before = mapped()
    for rows in torch.arange(4000).split(100):
        assert int(images[rows].amin()) == 7
    assert mapped() - before < 5000  # KiB


def test_a_cache_is_reused(folder: Path) -> None:
    opened(folder)
    (cache,) = caches(folder)
    before = cache.stat()
    opened(folder)
    after = caches(folder)[0].stat()
    assert caches(folder) == [cache]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_moved_folder_keeps_its_cache(folder: Path) -> None:
    opened(folder)
    moved = folder.rename(folder.with_name("moved"))
    opened(moved)
    assert len(caches(moved)) == 1


OTHER_TRANSFORMS = {
    "size": ImageTransform(6),
    "crop": ImageTransform(8, crop=9),
    "channels": ImageTransform(8, channels=1),
    "fit": ImageTransform(8, fit="letterbox"),
    "resample": ImageTransform(8, resample="box"),
    "value_range": ImageTransform(8, value_range=(0, 4095)),
    "ground": ImageTransform(8, ground=0),
}


def test_no_setting_of_the_transform_is_left_out_below() -> None:
    assert set(OTHER_TRANSFORMS) == {field.name for field in fields(ImageTransform)}


@pytest.mark.parametrize("what", ["bytes", "time", "order", *OTHER_TRANSFORMS])
def test_a_change_builds_another_cache(folder: Path, what: str) -> None:
    opened(folder)
    if what == "bytes":
        Image.new("RGB", (9, 12), (77, 0, 0)).save(folder / "0.png")
        assert opened(folder)[torch.tensor([0])][0, 0, 0, 0] == 77
    elif what == "time":
        os.utime(folder / "0.png", (1, 1))
        opened(folder)
    elif what == "order":
        origin = ["row"] * 2
        open_cache(folder, ["1.png", "0.png"], origin, ImageTransform(8), folder / "cache")
    else:
        opened(folder, OTHER_TRANSFORMS[what])
    assert len(caches(folder)) == 2  # the old one stays: another run may use it


def test_the_size_of_the_cache_is_said_while_it_is_built(folder: Path, capsys) -> None:
    opened(folder, ImageTransform(500))
    assert "500 px, 3.8 MB" in capsys.readouterr().err


def test_images_that_all_come_out_black_are_said_to(folder: Path) -> None:
    twelve_bits = np.full((12, 9), 4095, np.uint16)
    for place in range(5):
        Image.fromarray(twelve_bits).save(folder / f"{place}.png")
    with pytest.warns(UserWarning, match="no pixel is above 16 of 255.* state value_range"):
        opened(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = opened(folder, ImageTransform(8, value_range=(0, 4095)))
    assert (images[torch.arange(5)] == 255).all()


def test_a_cache_that_was_cut_short_is_built_anew(folder: Path) -> None:
    images = opened(folder)
    whole = images[torch.arange(5)]
    for length in (0, 60, 300):
        os.truncate(images.file, length)
        assert torch.equal(opened(folder)[torch.arange(5)], whole)


def test_a_failed_build_leaves_nothing(folder: Path) -> None:
    picture(9, 12).save(folder / "4.png")
    os.truncate(folder / "4.png", 200)
    with pytest.raises(DataError, match=r"4\.png"):
        opened(folder)
    assert caches(folder) == []


def test_what_a_killed_build_left_is_removed_when_it_is_old(folder: Path) -> None:
    (folder / "cache").mkdir()
    old, fresh, other = (
        folder / "cache" / name
        for name in (f"x.npy.{'0a' * 16}.part", f"x.npy.{'1b' * 16}.part", "images-of-mine.part")
    )
    for file in (old, fresh, other):
        file.write_bytes(b"half")
    past = time.time() - ABANDONED - 10
    os.utime(old, (past, past))
    os.utime(other, (past, past))
    opened(folder)
    assert not old.exists() and fresh.exists() and other.exists()


def test_two_processes_may_build_at_once(folder: Path) -> None:
    in_two(_build, folder)
    (cache,) = caches(folder)
    assert cache.suffix == ".npy"


def _build(rank: int, store: str, out: str) -> None:
    here = [Path(out) / f"here_{each}" for each in (0, 1)]
    here[rank].touch()
    while not all(file.exists() for file in here):
        time.sleep(0.001)
    assert opened(Path(out))[torch.arange(5)][:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]


# --- bad files ---


def truncated(path: Path) -> None:
    picture(40, 40).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:500])


def bomb(path: Path) -> None:
    Image.new("1", (12000, 12000)).save(path, "PNG")


def monster(path: Path) -> None:
    Image.new("1", (20000, 20000)).save(path, "PNG")


BAD = {
    "truncated JPEG": (truncated, "cannot be read"),
    "zero bytes": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("not a picture"), "none of PNG, JPEG"),
    "PostScript": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "none of PNG"),
    "missing": (lambda path: path.unlink(), "does not exist"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "is no file"),
    "bomb": (bomb, "12000 × 12000 pixels"),
    "monster": (monster, "far too many pixels"),
    "broken header": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40), "cannot"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_its_row(folder: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(folder / "3.png")
    with pytest.raises(DataError, match=message) as error:
        opened(folder)
    assert str(folder / "3.png") in str(error.value) and "table.csv row 5" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_crop_beyond_the_picture_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="9 × 12 pixels, less than the crop of 10"):
        opened(folder, ImageTransform(8, crop=10))


def test_a_name_with_a_zero_byte_is_an_error_of_its_row(folder: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv row 9"):
        open_cache(folder, ["a\0.png"], ["table.csv row 9"], ImageTransform(8), folder / "cache")


def test_a_place_that_cannot_be_written_to_names_the_remedy(folder: Path) -> None:
    (folder / "cache").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="name another folder as cache_dir"):
        opened(folder)
