"""Image files become pixels: every size and kind, upright, cropped at the centre."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcf.io.transform import ImageTransform, decode


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def decoded(path: Path, **form: int | None) -> np.ndarray:
    return decode(path, ImageTransform(**{"size": 8} | form), "table.csv row 2")


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_an_image_of_the_wanted_size_stays_as_it_is(tmp_path: Path) -> None:
    image = picture(8, 8)
    pixels = decoded(save(image, tmp_path / "a.png"))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


def test_the_centre_is_cropped(tmp_path: Path) -> None:
    image = picture(15, 20)
    path = save(image, tmp_path / "a.png")
    centre = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal(decoded(path, crop=8), centre[:, 6:14, 3:11])
    assert np.array_equal(decoded(path, size=15), centre[:, 2:17])


def test_shrinking_averages(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decoded(save(Image.fromarray(stripes), tmp_path / "a.png"))
    assert np.abs(pixels.astype(int) - 127).max() <= 16


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 301)])
def test_any_size_is_brought_to_the_wanted_one(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = decoded(save(Image.new("RGB", size, (9, 90, 200)), tmp_path / "a.png"))
    assert pixels.shape == (3, 8, 8)
    assert (pixels == np.array([9, 90, 200]).reshape(3, 1, 1)).all()


def deep_grey() -> Image.Image:
    return Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (8, 8), 100), (100, 100, 100)),
        (Image.new("1", (8, 8), 1), (255, 255, 255)),
        (Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4), (10, 20, 30)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("LA", (8, 8), (0, 255)), (0, 0, 0)),
        (deep_grey(), (100, 100, 100)),
    ],
    ids=["grey", "bits", "palette", "clear", "translucent", "grey-alpha", "16-bit"],
)
def test_every_kind_of_picture_becomes_colour_or_grey(
    tmp_path: Path, image: Image.Image, colour: tuple[int, int, int]
) -> None:
    path = save(image, tmp_path / "a.png")
    assert (decoded(path) == np.array(colour).reshape(3, 1, 1)).all()
    grey = decoded(path, channels=1)
    luma = np.dot(colour, (0.299, 0.587, 0.114))
    assert grey.shape == (1, 8, 8) and np.abs(grey - luma).max() <= 1


def test_a_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([200, 0, 0])
    pixels = decoded(save(image, tmp_path / "a.png", transparency=0))
    assert (pixels == 255).all()


def test_cmyk_jpeg_is_read(tmp_path: Path) -> None:
    pixels = decoded(save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg"))
    assert np.abs(pixels.mean((1, 2)) - (255, 0, 0)).max() < 12


def test_the_camera_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: the top becomes the right
    pixels = decoded(save(image, tmp_path / "a.png", exif=exif))
    assert (pixels[:, :, 4:] == 255).all() and (pixels[:, :, :4] == 0).all()


@pytest.mark.parametrize(
    "form", [{"size": 0}, {"size": 8, "crop": 0}, {"size": 8, "channels": 2}], ids=str
)
def test_impossible_formats_are_refused(form: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ImageTransform(**form)
