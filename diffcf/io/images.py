"""Image files that anyone may have made: opened in bounded memory, decoded to ``[C, S, S]`` uint8.

Before a pixel is decoded, a file must be regular, of at most :data:`MAX_BYTES`, in a format that
Pillow reads by itself, and of at most :data:`MAX_PIXELS`. Pillow bounds what texts and profiles
inside a PNG unfold to, and refuses truncated files.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from diffcf.io.errors import DataError, OutputError

# Some of Pillow's other readers hand the file to outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# The largest picture of a 100-megapixel camera passes. Decoding takes 8 bytes a pixel at most.
MAX_PIXELS = 120_000_000
MAX_BYTES = 512 * 2**20
# Threads decode in parallel, but only one at a time decodes pictures of more pixels than this.
LARGE = 16_000_000
_ONE_AT_A_TIME = threading.Lock()


class UnusableImage(ValueError):
    """What is wrong with a file (the rest of a sentence that starts with it), and the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem, self.remedy = problem, remedy


@contextmanager
def open_image(
    source: Path | BytesIO, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """The picture in a file, or in its content, whose length the caller bounds; not decoded yet.

    Raises:
        UnusableImage: when it is no regular file, no picture of ``formats``, of more pixels than
            ``max_pixels``, or broken, which may show when it is decoded inside the block.
    """
    if isinstance(source, Path):
        checked_file(source)
    try:
        with Image.open(source, formats=formats) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                size = f"{image.width} × {image.height} pixels"
                most = f"more than {max_pixels / 1e6:.3g} million"
                raise UnusableImage(f"has {size}, {most}", "scale it down")
            with _ONE_AT_A_TIME if pixels > LARGE else nullcontext():
                yield image
    except UnusableImage:
        raise
    except Image.DecompressionBombError:
        raise UnusableImage("has far too many pixels", "scale it down") from None
    except Exception as error:  # Pillow's readers raise all sorts of things on damaged bytes.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is none of {', '.join(formats)}"
        raise UnusableImage(f"cannot be read ({reason})", "replace it, or leave it out") from None


def checked_file(path: Path) -> os.stat_result:
    """Status of a regular, bounded file; UnusableImage for any other (a pipe would block)."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UnusableImage("does not exist", "check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UnusableImage(f"cannot be opened ({error})", "check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImage("is no file", "name a picture")
    if not status.st_size:
        raise UnusableImage("is empty (0 bytes)", "replace it, or leave it out")
    if status.st_size > MAX_BYTES:
        megabytes = f"{status.st_size / 2**20:.0f} MiB"
        raise UnusableImage(f"takes {megabytes}, over {MAX_BYTES // 2**20}", "scale it down")
    return status


STRIP = 2**20  # pixels that are converted at a time
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


@dataclass(frozen=True)
class ImageFormat:
    """What every image becomes; ValueError for a setting outside its range.

    Attributes:
        size: side S of the square result, in pixels.
        crop: side of the central square that is kept, in pixels of the file; None: the largest.
        channels: 3 for colour, 1 for grey.
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
    """One file as ``[C, S, S]`` uint8: upright by its EXIF tag, on white, cropped, antialiased.

    Grey, palette, 16-bit grey, CMYK and transparent pictures are converted; of an animation the
    first frame is taken; a smaller picture is enlarged.

    Raises:
        DataError: naming file and ``origin``, the table row that names it, for a picture that is
            broken, too large, or smaller than the crop.
    """
    try:
        return _decoded(path, form, MAX_PIXELS)
    except UnusableImage as error:
        raise DataError(f"Image {path} ({origin}) {error.problem}: {error.remedy}.") from None


def decode_bytes(content: bytes, form: ImageFormat, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """As :func:`decode`, from the content of a file, of at most ``max_pixels``."""
    try:
        return _decoded(BytesIO(content), form, max_pixels)
    except UnusableImage as error:
        raise DataError(f"This file {error.problem}: {error.remedy}.") from None


def _decoded(source: Path | BytesIO, form: ImageFormat, max_pixels: int) -> np.ndarray:
    with open_image(source, max_pixels=max_pixels) as image:
        ImageOps.exif_transpose(image, in_place=True)
        upright = _opaque(image)
    side = form.crop or min(upright.size)
    if side > min(upright.size):
        size = f"{upright.width} × {upright.height}"
        raise UnusableImage(f"has {size} pixels, less than the crop of {side}", "lower crop")
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    if upright.size != (side, side):
        upright = upright.crop((left, top, left + side, top + side))
    if side != form.size:
        # Pillow widens the filter when it shrinks. Bilinear never overshoots, so flat colours stay.
        upright = upright.resize((form.size, form.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(upright.convert("L" if form.channels == 1 else "RGB"))
    return pixels.reshape(form.size, form.size, form.channels).transpose(2, 0, 1)


def _opaque(image: Image.Image) -> Image.Image:
    """A copy in mode "L" or "RGB", independent of the open file; transparency becomes white."""
    image.load()
    if image.mode.startswith("I"):
        return _in_strips(image, "L", _eight_bits)
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        return _in_strips(image, "RGB", _on_white)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


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
    grey = np.asarray(image).astype(np.float64).clip(0, 65535)
    return Image.fromarray((grey / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


ENDINGS = {f".{form.lower()}" for form in FORMATS} | {".jpg"}
# File systems allow 255 bytes; an output adds its number in a sequence, ".png" and ".part".
LONGEST = 255 - len("_1000.png.part")


def image_files(paths: Sequence[Path], taken: Collection[str] = ()) -> dict[str, Path]:
    """Image files, by the name (without ending) that the output made from each gets.

    Of a folder, the visible files with a picture's ending are taken, ordered by name. The command
    itself uses the output names ``taken``.

    Raises:
        OutputError: when two outputs would get one name (also on a file system that ignores case),
            or one of ``taken``.
        DataError: when a file is missing, there is none, or a name is too long.
    """
    found: dict[str, Path] = {}  # by folded name
    for file in (file for path in paths for file in _listed(path)):
        folded = _folded(file.stem)
        if not file.is_file():
            raise DataError(f"Image {file} does not exist: check the path.")
        if folded in map(_folded, taken):
            raise OutputError(f"{file} would be answered in our own {file.stem}.png: rename it.")
        if other := found.get(folded):
            raise OutputError(f"{file} and {other} would share an answer's name: rename one.")
        if len(file.stem.encode("utf-8", "surrogateescape")) > LONGEST:
            raise DataError(f"The name of {file} is too long to answer by: shorten it.")
        found[folded] = file
    if not found:
        raise DataError(f"There are no images in {', '.join(map(str, paths))}.")
    return {file.stem: file for file in found.values()}


def _listed(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    return [file for file in files if file.suffix.lower() in ENDINGS]


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()
