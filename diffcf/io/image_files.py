"""Image files that anyone may have made: opened only when they can be decoded in bounded memory.

What a file says of itself is checked before a pixel is decoded: it is a regular file of at most
:data:`MAX_BYTES`, in a format whose reader is Pillow's own, of at most :data:`MAX_PIXELS`. Pillow
itself bounds what the texts and profiles inside a PNG unfold to, and refuses files cut short.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from unicodedata import normalize

from PIL import Image

from diffcf.io.errors import DataError, OutputError

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


ENDINGS = {f".{form.lower()}" for form in FORMATS} | {".jpg"}
# File systems take 255 bytes; an answer adds its number in turn, ".png" and ".part".
LONGEST = 255 - len("_1000.png.part")


def image_files(paths: Sequence[Path], taken: Collection[str] = ()) -> dict[str, Path]:
    """Image files by the name (without ending) that their answers get.

    Of a folder, the pictures in it by their ending; those that are hidden are left out.

    Args:
        paths: files and folders.
        taken: names that the command's own files have.

    Raises:
        FileExistsError: when two answers would get one name, here or on a file system that does
            not tell capitals, or an answer that of the command's own files.
        FileNotFoundError: when a file is missing, none is there, or a name is too long.
    """
    found: dict[str, Path] = {}
    known: dict[str, Path] = {}
    for file in (file for path in paths for file in _of(path)):
        if not file.is_file():
            raise DataError(f"Image {file} does not exist: check the path.")
        name, alike = file.stem, _alike(file.stem)
        if alike in map(_alike, taken):
            raise OutputError(f"{file} would be answered in our own {name}.png: rename it.")
        if alike in known:
            raise OutputError(
                f"{file} and {known[alike]} would share an answer's name: rename one."
            )
        if len(name.encode("utf-8", "surrogateescape")) > LONGEST:
            raise DataError(f"The name of {file} is too long to answer by: shorten it.")
        found[name] = known[alike] = file
    if not found:
        raise DataError(f"There are no images in {', '.join(map(str, paths))}.")
    return found


def _of(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder, in the order of their names."""
    if not path.is_dir():
        return [path]
    files = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    return [file for file in files if file.suffix.lower() in ENDINGS]


def _alike(name: str) -> str:
    return normalize("NFC", name).casefold()
