"""One transform from file to network: recorded as text, stated for every form of file."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffcf.io.errors import DataError
from diffcf.io.images import UnusableImage
from diffcf.io.pasting import uncrop
from diffcf.io.pixels import from_bytes
from diffcf.io.transform import ImageTransform, decode

OTHER = {
    "size": 6,
    "crop": 9,
    "channels": 1,
    "fit": "letterbox",
    "resample": "lanczos",
    "value_range": (0.0, 4095.0),
    "ground": 0,
}


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def png(folder: Path, width: int, height: int, channels: int = 3) -> Path:
    noise(width, height, channels).save(folder / "a.png")
    return folder / "a.png"


# --- a record ---


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_survives_as_text(name: str) -> None:
    transform = ImageTransform(**{"size": 8} | {name: OTHER[name]})
    assert ImageTransform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform
    assert str(transform) != str(ImageTransform(8)), "people are told of it"


def test_the_settings_above_are_all_there_are() -> None:
    assert list(OTHER) == [field.name for field in fields(ImageTransform)]


def test_what_a_record_lacks_is_as_it_was_before_there_was_that_setting() -> None:
    assert ImageTransform.from_dict({"size": 64, "crop": 148}) == ImageTransform(64, 148)


@pytest.mark.parametrize(
    "described",
    [
        None,
        [],
        {},
        {"crop": 8},
        {"size": 8, "turn": 90},
        {"size": "8"},
        {"size": True},
        {"size": 0},
        {"size": 10**9},
        {"size": 8, "crop": 0},
        {"size": 8, "crop": 1.5},
        {"size": 8, "channels": 2},
        {"size": 8, "fit": "stretch"},
        {"size": 8, "fit": "letterbox", "crop": 8},
        {"size": 8, "fit": []},
        {"size": 8, "resample": "nearest"},
        {"size": 8, "ground": 256},
        {"size": 8, "value_range": [1]},
        {"size": 8, "value_range": [5, 5]},
        {"size": 8, "value_range": [0, float("inf")]},
        {"size": 8, "value_range": [0, "9"]},
        {"size": 8, "value_range": "09"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused_in_one_sentence(described: object) -> None:
    with pytest.raises(ValueError) as caught:
        ImageTransform.from_dict(described)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# --- every form of file ---


def test_a_file_smaller_than_the_crop_is_refused_unless_it_is_an_answer(tmp_path: Path) -> None:
    transform = ImageTransform(8, crop=20)
    with pytest.raises(DataError, match="19 × 30 pixels, less than the crop of 20: give it in"):
        decode(png(tmp_path, 19, 30), transform, "row 2")
    path = png(tmp_path, 8, 8)
    assert np.array_equal(decode(path, transform, "row 2"), decode(path, ImageTransform(8), ""))


@pytest.mark.parametrize(("width", "height"), [(16, 8), (8, 16), (300, 2), (1, 1), (5, 7)])
def test_letterbox_keeps_the_whole_picture_between_bars(
    tmp_path: Path, width: int, height: int
) -> None:
    Image.new("RGB", (width, height), (9, 90, 200)).save(tmp_path / "a.png")
    transform = ImageTransform(8, fit="letterbox", ground=40)
    pixels = decode(tmp_path / "a.png", transform, "row 2")
    shown = (pixels == np.array([9, 90, 200]).reshape(3, 1, 1)).all(0)
    bars = (pixels == 40).all(0)
    assert (shown ^ bars).all()
    across, down = shown.any(0).sum(), shown.any(1).sum()
    assert max(across, down) == 8 and shown.sum() == across * down
    assert abs(min(across, down) - max(8 * min(width, height) / max(width, height), 1)) <= 0.5
    rows, columns = shown.any(1).nonzero()[0], shown.any(0).nonzero()[0]
    assert abs(rows.mean() - 3.5) <= 0.5 and abs(columns.mean() - 3.5) <= 0.5, "in the middle"


def test_an_extreme_letterbox_takes_little_memory() -> None:
    kept, shown = ImageTransform(64, fit="letterbox").placement(100_000, 10)
    assert kept == (0, 0, 100_000, 10) and shown == (0, 31, 64, 32)


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(1, 24),
    crop=st.none() | st.integers(1, 40),
    letterbox=st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_any_picture_becomes_the_wanted_square_or_is_refused(
    width: int, height: int, size: int, crop: int | None, letterbox: bool
) -> None:
    crop, fit = (None, "letterbox") if letterbox else (crop, "crop")
    transform = ImageTransform(size, crop, fit=fit)
    try:
        pixels = transform.apply(noise(width, height))
    except UnusableImage:
        assert crop is not None and crop > min(width, height)
        return
    assert pixels.shape == (3, size, size)


# --- and the way back ---


@pytest.mark.parametrize("fit", ["crop", "letterbox"])
@pytest.mark.parametrize("shape", [(40, 30, 3), (17, 50, 3), (40, 30, 1), (3, 5, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_where_an_answer_changes_nothing_the_file_stays_exact(
    tmp_path: Path, fit: str, shape: tuple[int, int, int], channels: int
) -> None:
    path = png(tmp_path, *shape)
    transform = ImageTransform(8, channels=channels, fit=fit)
    image = from_bytes(decode(path, transform, ""))
    slightly = image + 1e-3 * torch.randn(image.shape).clamp(-3, 3)  # below half a grey level
    for whole in uncrop(path, transform, [image, slightly]):
        assert whole.size == shape[:2]
        original = np.asarray(Image.open(path).convert(whole.mode))
        assert np.array_equal(np.asarray(whole), original)


def test_only_what_the_network_saw_changes_and_where_the_answer_did(tmp_path: Path) -> None:
    path, transform = png(tmp_path, 60, 44), ImageTransform(10, crop=40)
    answer = from_bytes(decode(path, transform, ""))
    answer[:, 5:] = 1.0  # the lower half becomes white
    (whole,) = uncrop(path, transform, [answer])
    before, after = np.asarray(Image.open(path)).astype(int), np.asarray(whole).astype(int)
    changed = (before != after).any(2)
    assert not changed[:, :10].any() and not changed[:, 50:].any()
    assert not changed[:2].any() and not changed[42:].any()
    assert not changed[2:18, 10:50].any() and changed[26:42, 10:50].mean() > 0.9
    again = from_bytes(transform.apply(whole))
    assert (
        (again[:, 6:] - 1).abs().mean() < 0.3 < (1 - from_bytes(decode(path, transform, ""))).mean()
    )


def test_at_the_networks_own_size_the_answer_itself_comes_back(tmp_path: Path) -> None:
    path, transform = png(tmp_path, 8, 8), ImageTransform(8)
    answer = from_bytes(np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    (whole,) = uncrop(path, transform, [answer])
    assert torch.allclose(from_bytes(np.asarray(whole).transpose(2, 0, 1)), answer, atol=1e-6)


def test_bars_of_a_letterbox_are_not_part_of_the_file(tmp_path: Path) -> None:
    path, transform = png(tmp_path, 32, 16), ImageTransform(8, fit="letterbox")
    answer = from_bytes(decode(path, transform, ""))
    answer[:, :2], answer[:, 6:] = -1, -1
    (whole,) = uncrop(path, transform, [answer])
    assert np.array_equal(np.asarray(whole), np.asarray(Image.open(path)))
    answer[:, 2:6] = 0.5
    (whole,) = uncrop(path, transform, [answer])
    assert whole.size == (32, 16) and not np.array_equal(
        np.asarray(whole), np.asarray(noise(32, 16))
    )


def test_strips_of_a_change_are_the_change(tmp_path: Path, monkeypatch) -> None:
    path, transform = png(tmp_path, 50, 40), ImageTransform(8)
    answer = torch.rand(3, 8, 8) * 2 - 1
    (whole,) = uncrop(path, transform, [answer])
    monkeypatch.setattr("diffcf.io.pasting.STRIP", 100)
    (strips,) = uncrop(path, transform, [answer])
    assert np.array_equal(np.asarray(whole), np.asarray(strips))
