"""Image files that anyone may have made: opened only when they can be decoded in bounded memory.

What a file says of itself is checked before a pixel is decoded: it is a regular file of at most
:data:`MAX_BYTES`, in a format whose reader is Pillow's own, of at most :data:`MAX_PIXELS`. Pillow
itself bounds what the texts and profiles inside a PNG unfold to, and refuses files cut short.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path

from PIL import Image

__all__ = ["FORMATS", "MAX_BYTES", "MAX_PIXELS", "UnusableImage", "opened"]

# Only these readers of Pillow: some others hand the file to outside programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# The largest picture of a 100-megapixel camera passes. Decoding takes 8 bytes a pixel at most.
MAX_PIXELS = 120_000_000
MAX_BYTES = 512 * 2**20
# Threads decode side by side; of pictures larger than this, one at a time.
LARGE = 16_000_000
_ONE_AT_A_TIME = threading.Lock()


class UnusableImage(ValueError):
    """What is wrong with a file, as the end of a sentence about it, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem, self.remedy = problem, remedy


@contextmanager
def opened(
    source: Path | BytesIO, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """The picture, not decoded yet; errors of decoding it in the block are told likewise.

    Args:
        source: a file, or its content, whose length is the caller's to bound.
        formats: readers of Pillow to try.
        max_pixels: that it may have.

    Raises:
        UnusableImage: when it is no regular file, no picture of ``formats``, too large, or broken.
    """
    if isinstance(source, Path):
        _check_file(source)
    try:
        with Image.open(source, formats=formats) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                size = f"{image.width} × {image.height}"
                most = f"more than {max_pixels / 1e6:.3g} million"
                raise UnusableImage(f"has {size} pixels, {most}", "scale it down")
            with _ONE_AT_A_TIME if pixels > LARGE else nullcontext():
                yield image
    except UnusableImage:
        raise
    except Image.DecompressionBombError:
        raise UnusableImage("has far too many pixels", "scale it down") from None
    except Exception as error:  # Pillow's readers raise all sorts of things on damaged bytes.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"it is none of {', '.join(formats)}"
        raise UnusableImage(f"cannot be read ({reason})", "replace it, or leave it out") from None


def _check_file(path: Path) -> None:
    """UnusableImage unless it is a regular file of bearable size; a pipe would block for ever."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        missing = isinstance(error, FileNotFoundError)
        problem = "does not exist" if missing else f"cannot be opened ({error})"
        raise UnusableImage(problem, "check the path") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImage("is no file", "name a picture")
    if status.st_size > MAX_BYTES:
        megabytes = f"{status.st_size / 2**20:.0f} MiB"
        raise UnusableImage(f"takes {megabytes}, over {MAX_BYTES // 2**20}", "scale it down")
