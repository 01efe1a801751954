"""Image files become pixels: every size and kind, upright, cropped at the centre."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from data_modules.image_cache import open_cache
from diffcf.app.gallery import from_folder, uploaded
from diffcf.commands.fid import FolderImages
from diffcf.io.errors import DataError
from diffcf.io.pixels import from_bytes
from diffcf.io.transform import ImageTransform, decode, decode_bytes


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def decoded(path: Path, **form: object) -> np.ndarray:
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


# --- TIFF and more than 8 bits ---


def grey(dtype: str, *levels: float) -> Image.Image:
    return Image.fromarray(np.resize(np.array(levels, dtype), (8, 8)))


TIFFS = {
    "grey": (Image.new("L", (8, 8), 100), (100, 100, 100)),
    "bits": (Image.new("1", (8, 8), 1), (255, 255, 255)),
    "colour": (Image.new("RGB", (8, 8), (10, 20, 30)), (10, 20, 30)),
    "palette": (Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4), (10, 20, 30)),
    "translucent": (Image.new("RGBA", (8, 8), (255, 0, 0, 51)), (255, 204, 204)),
    "cmyk": (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
    "16-bit": (grey("<u2", 100 * 257), (100, 100, 100)),
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_is_read_as_png_is(tmp_path: Path, kind: str, compression: str | None) -> None:
    image, colour = TIFFS[kind]
    path = save(image, tmp_path / "a.tif", compression=compression)
    assert (decoded(path) == np.array(colour).reshape(3, 1, 1)).all()


def test_the_order_of_bytes_is_respected(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (8, 8), np.full((8, 8), 100 * 257 + 1, ">u2").tobytes())
    assert (decoded(save(image, tmp_path / "a.tif")) == 100).all()


def test_a_turned_tiff_and_its_first_page(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))
    path = save(image, tmp_path / "a.tif", tiffinfo={0x0112: 6})
    assert (decoded(path)[:, :, 4:] == 255).all() and (decoded(path)[:, :, :4] == 0).all()
    pages = [Image.new("L", (8, 8), level) for level in (50, 90)]
    path = save(pages[0], tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    assert (decoded(path) == 50).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_twelve_bits_in_sixteen_need_a_stated_range(tmp_path: Path, ending: str) -> None:
    path = save(grey("<u2", 0, 2048, 4095, 5000), tmp_path / f"a.{ending}")
    assert decoded(path).max() < 20, "16 bits are meant where nobody says otherwise"
    pixels = decoded(path, value_range=(0, 4095))
    assert pixels[0, 0, :4].tolist() == [0, 128, 255, 255]
    eight = save(Image.new("L", (8, 8), 90), tmp_path / f"b.{ending}")
    assert (decoded(eight, value_range=(0, 4095)) == 90).all(), "it is scaled already"


@pytest.mark.parametrize("dtype", ["f4", "i4"])
def test_values_of_unknown_range_need_a_stated_one(tmp_path: Path, dtype: str) -> None:
    path = save(grey(dtype, -1000, 0, 1000), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"nobody said what is black .*: set value_range"):
        decoded(path)
    pixels = decoded(path, value_range=(-1000, 1000))
    assert pixels[0, 0, :3].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_one_sentence(tmp_path: Path, value: float) -> None:
    path = save(grey("f4", 0.5, value), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif .* no finite numbers: replace them\.$"):
        decoded(path, value_range=(0, 1))


# --- what is stated of odd files ---


def test_transparency_lies_on_the_ground_that_was_stated(tmp_path: Path) -> None:
    path = save(Image.new("RGBA", (8, 8), (255, 0, 0, 51)), tmp_path / "a.png")
    assert decoded(path, ground=0)[:, 0, 0].tolist() == [51, 0, 0]


def test_colour_profiles_are_not_applied(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = save(Image.new("RGB", (8, 8), (9, 90, 200)), tmp_path / "a.png", icc_profile=profile)
    assert decoded(path)[:, 0, 0].tolist() == [9, 90, 200]


def test_gif_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = save(Image.new("P", (8, 8)), tmp_path / "a.gif")
    with pytest.raises(DataError, match=r"none of PNG, JPEG, WEBP, BMP, TIFF"):
        decoded(path)


def test_a_grey_level_may_be_the_transparent_one(tmp_path: Path) -> None:
    path = save(Image.new("L", (8, 8), 7), tmp_path / "a.png", transparency=7)
    assert (decoded(path) == 255).all()
    path = save(Image.new("1", (8, 8), 1), tmp_path / "b.png", transparency=1)
    assert (decoded(path, ground=9) == 9).all()


EVERYWHERE = {
    "grey16.png": deep_grey(),
    "grey16.tif": deep_grey(),
    "clear.png": Image.new("RGBA", (8, 8), (255, 0, 0, 51)),
    "palette.png": Image.new("RGB", (8, 8), (10, 20, 30)).quantize(4),
    "bits.png": Image.new("1", (8, 8), 1),
    "la.png": Image.new("LA", (8, 8), (0, 100)),
    "cmyk.jpg": Image.new("CMYK", (8, 8), (0, 255, 255, 0)),
    "tall.png": picture(8, 20),
    "turned.png": picture(12, 8),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_command_sees_the_same_pixels(tmp_path: Path, name: str) -> None:
    """The data module's cache, ``counterfactual``, an upload, the API's and ``diffcf fid``."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if name == "turned.png" else {}
    path = save(EVERYWHERE[name], tmp_path / name, **options)
    transform = ImageTransform(8, crop=8)
    pixels = decode(path, transform, "row 2")
    cached = open_cache(tmp_path, [name], ["row 2"], transform, tmp_path / "cache")
    assert np.array_equal(cached[torch.tensor([0])][0].numpy(), pixels)
    assert np.array_equal(decode_bytes(path.read_bytes(), transform), pixels)
    image = from_bytes(pixels)
    assert torch.equal(uploaded(path.read_bytes(), transform).image, image)
    assert torch.equal(next(from_folder(tmp_path, transform, 1)).image, image)
    for given in (transform, None):
        (batch,) = FolderImages(tmp_path, 1, given)
        if given is None:  # whole
            left, top = (batch.shape[3] - 8) // 2, (batch.shape[2] - 8) // 2
            batch = batch[:, :, top : top + 8, left : left + 8]
        assert torch.equal(batch[0], image)
