"""Image files that anyone may have made: opened in bounded memory, decoded to 8 bits a channel.

Before a pixel is decoded, a file must be regular, of at most :data:`MAX_BYTES`, in a format that
Pillow reads by itself, and of at most :data:`MAX_PIXELS`. Pillow bounds what texts and profiles
inside a PNG unfold to, and refuses truncated files.

Every command decodes by :func:`read_picture`: upright by the EXIF tag, transparency over one grey,
of an animation or a file of many pages the first. Colour profiles are not applied: the numbers in
the file count.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Some of Pillow's other readers hand the file to outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
# The largest picture of a 100-megapixel camera passes. Decoding takes 8 bytes a pixel at most.
MAX_PIXELS = 120_000_000
MAX_BYTES = 512 * 2**20
# Threads decode in parallel, but only one at a time decodes pictures of more pixels than this.
LARGE = 16_000_000
TILE_WIDTH, TILE_HEIGHT = 322, 323  # tags of TIFF
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
            if (tile := _tile(image)) > max(LARGE, pixels):
                said = f"has tiles of {tile:,} pixels, more than the picture"
                raise UnusableImage(said, "save it anew")
            with _ONE_AT_A_TIME if pixels > LARGE else nullcontext():
                yield image
    except UnusableImage:
        raise
    except Image.DecompressionBombError:
        raise UnusableImage("has far too many pixels", "scale it down") from None
    except Exception as error:  # Pillow's readers raise all sorts of things on damaged bytes.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"it is none of {', '.join(formats)} as Pillow knows them"
        raise UnusableImage(f"cannot be read ({reason})", "replace it, or leave it out") from None


def _tile(image: Image.Image) -> int:
    """Pixels of a TIFF's tiles, each of which is unpacked whole however small the picture; or 0."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_HEIGHT, 0))


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
WHITE = 255


def read_picture(
    source: Path | BytesIO,
    ground: int = WHITE,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A whole picture at its own size, upright and opaque, in mode "L" (grey) or "RGB".

    Args:
        source: the file, or its content.
        ground: grey level, 0 to 255, that shows through where a picture is transparent.
        value_range: of grey pictures of more than 8 bits, the values that become black and white;
            None takes 0 and 65535 for those of 16 bits.
        max_pixels: a picture of more is refused.

    Raises:
        UnusableImage: as :func:`open_image`; also for values whose range is not known, or that are
            no finite numbers.
    """
    with open_image(source, max_pixels=max_pixels) as image:
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        if image.mode == "F" or image.mode.startswith("I"):
            low, high = _deep_range(image) if value_range is None else value_range
            return _in_strips(image, "L", partial(_eight_bits, low, high))
        if image.mode in WITH_ALPHA or "transparency" in image.info:
            return _in_strips(image, "RGB", partial(_on_ground, ground))
        return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _deep_range(image: Image.Image) -> tuple[float, float]:
    """Black and white of a deep grey picture whose range nobody stated."""
    # Older Pillow widens a PNG's 16 bits to 32.
    if image.mode.startswith("I;16") or image.format == "PNG":
        return 0, 65535
    values = "floating-point" if image.mode == "F" else "32-bit or signed"
    raise UnusableImage(
        f"holds {values} values, of which nobody said what is black and what is white",
        "set value_range where the model is trained, or save it with 8 or 16 bits",
    )


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


def _eight_bits(low: float, high: float, image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnusableImage("holds values that are no finite numbers", "replace them")
    grey = (values.clip(low, high) - low) * (WHITE / (high - low))
    return Image.fromarray(grey.round().astype(np.uint8))


def _on_ground(ground: int, image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    below = Image.new("RGBA", image.size, (ground, ground, ground, 255))
    return Image.alpha_composite(below, image).convert("RGB")
