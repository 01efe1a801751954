"""From an image file to pixels: any size and kind of picture becomes ``[C, S, S]`` uint8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffcf.io.errors import DataError
from diffcf.io.image_files import MAX_PIXELS, UnusableImage, opened

STRIP = 2**20  # pixels that are converted at a time
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class ImageFormat:
    """What every image becomes.

    Attributes:
        size: side S of the square result, in pixels.
        crop: side of the central square that is kept, in pixels of the file; None keeps the
            largest.
        channels: 3 for colour, 1 for grey.

    Raises:
        ValueError: for a setting outside its range.
    """

    size: int
    crop: int | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"image_size must be at least 1, not {self.size}.")
        if self.crop is not None and self.crop < 1:
            raise ValueError(f"crop must be at least 1 or left out, not {self.crop}.")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), not {self.channels}.")


def decode(path: Path, form: ImageFormat, origin: str) -> np.ndarray:
    """Read one file: turned upright by its EXIF tag, on white, cropped, resized with antialiasing.

    Grey, palette, 16-bit grey, CMYK and transparent pictures are converted; of an animation the
    first frame is taken; a smaller picture is enlarged.

    Args:
        path: a PNG, JPEG, WebP or BMP file.
        form: what to make of it.
        origin: the table row that names the file, for the error message.

    Returns:
        ``[channels, size, size]`` uint8.

    Raises:
        DataError: naming file and row, when it is no whole picture, has more than
            :data:`~diffcf.io.image_files.MAX_PIXELS`, or is smaller than the crop.
    """
    try:
        return _decoded(path, form, MAX_PIXELS)
    except UnusableImage as error:
        raise DataError(f"Image {path} ({origin}) {error.problem}: {error.remedy}.") from None


def decode_bytes(content: bytes, form: ImageFormat, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As :func:`decode`, from the bytes of a file that is not trusted; nothing is written.

    Args:
        content: of a PNG, JPEG, WebP or BMP file.
        form: what to make of it.
        max_pixels: that the picture may have, before anything is unfolded.

    Returns:
        ``[channels, size, size]`` uint8.

    Raises:
        DataError: when it is no whole picture, has more pixels, or is smaller than the crop.
    """
    try:
        return _decoded(BytesIO(content), form, max_pixels)
    except UnusableImage as error:
        raise DataError(f"This file {error.problem}: {error.remedy}.") from None


def _decoded(source: Path | BytesIO, form: ImageFormat, max_pixels: int) -> np.ndarray:
    with opened(source, max_pixels=max_pixels) as image:
        ImageOps.exif_transpose(image, in_place=True)
        upright = _opaque(image)
    side = form.crop or min(upright.size)
    if side > min(upright.size):
        size = f"{upright.width} × {upright.height}"
        raise UnusableImage(f"has {size} pixels, less than the crop of {side}", "lower crop")
    return _squared(upright, side, form)


def _opaque(image: Image.Image) -> Image.Image:
    """Modes "L" or "RGB", whatever the file has; what shows through is white."""
    image.load()
    if image.mode.startswith("I"):
        return _in_strips(image, "L", _eight_bits)
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return _in_strips(image, "RGB", _on_white)
    wanted = "L" if image.mode in ("1", "L") else "RGB"
    # A copy either way, since the file is about to be closed; it takes the pixels along.
    return image.convert(wanted)


def _in_strips(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """``convert`` on some rows at a time: its working copies are several times the picture."""
    whole = Image.new(mode, image.size)
    rows = max(STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        whole.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey."""
    grey = np.asarray(image).astype(np.float64).clip(0, 65535)
    return Image.fromarray((grey / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _squared(image: Image.Image, side: int, form: ImageFormat) -> np.ndarray:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    if side != form.size:
        # Pillow widens the filter when it shrinks. Bilinear never overshoots, so flat colours stay.
        image = image.resize((form.size, form.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.convert("L" if form.channels == 1 else "RGB"))
    return pixels.reshape(form.size, form.size, form.channels).transpose(2, 0, 1)
