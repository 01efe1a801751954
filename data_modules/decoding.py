"""From an image file to pixels: any size and kind of picture becomes ``[C, S, S]`` uint8."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_modules.tables import DataError

__all__ = ["FORMATS", "ImageFormat", "decode", "decode_bytes"]

# Only these readers of Pillow: some others hand the file to outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# A small file can unfold to gigabytes. The largest picture of a 100-megapixel camera passes.
MAX_PIXELS = 120_000_000
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
            :data:`MAX_PIXELS`, or is smaller than the crop.
    """
    try:
        return _decoded(path, form, MAX_PIXELS)
    except _Unusable as error:
        remedy = error.remedy or "replace it, or drop its row"
        raise DataError(f"Image {path} ({origin}) {error.problem}: {remedy}.") from None


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
    except _Unusable as error:
        raise DataError(
            f"This file {error.problem}: {error.remedy or 'choose another one'}."
        ) from None


class _Unusable(Exception):
    """What is wrong with a picture, and what helps where that is the same for any picture."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def _decoded(source: Path | BytesIO, form: ImageFormat, max_pixels: int) -> np.ndarray:
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} × {image.height}"
                most = f"more than {max_pixels / 1e6:.3g} million"
                raise _Unusable(f"has {size} pixels, {most}", "scale it down")
            upright = _opaque(ImageOps.exif_transpose(image))
    except _Unusable:
        raise
    except Image.DecompressionBombError:
        raise _Unusable("has far too many pixels", "scale it down") from None
    except Exception as error:  # Pillow's readers raise all sorts of things on damaged bytes.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"it is none of {', '.join(FORMATS)}"
        raise _Unusable(f"cannot be read ({reason})") from None
    side = form.crop or min(upright.size)
    if side > min(upright.size):
        size = f"{upright.width} × {upright.height}"
        raise _Unusable(f"has {size} pixels, less than the crop of {side}", "lower crop")
    return _squared(upright, side, form)


def _opaque(image: Image.Image) -> Image.Image:
    """Modes "L" or "RGB", whatever the file has; what shows through is white."""
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(image).astype(np.float64).clip(0, 65535)
        return Image.fromarray((grey / 257).round().astype(np.uint8))
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _squared(image: Image.Image, side: int, form: ImageFormat) -> np.ndarray:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side != form.size:
        # Pillow widens the filter when it shrinks. Bilinear never overshoots, so flat colours stay.
        image = image.resize((form.size, form.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.convert("L" if form.channels == 1 else "RGB"))
    return pixels.reshape(form.size, form.size, form.channels).transpose(2, 0, 1)
