"""Which image files a command was given, and the names that its answers to them get."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from unicodedata import normalize

from data_modules.image_files import FORMATS

__all__ = ["image_files"]

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
            raise FileNotFoundError(f"Image {file} does not exist: check the path.")
        name, alike = file.stem, _alike(file.stem)
        if alike in map(_alike, taken):
            raise FileExistsError(f"{file} would be answered in our own {name}.png: rename it.")
        if alike in known:
            raise FileExistsError(
                f"{file} and {known[alike]} would share an answer's name: rename one."
            )
        if len(name.encode("utf-8", "surrogateescape")) > LONGEST:
            raise FileNotFoundError(f"The name of {file} is too long to answer by: shorten it.")
        found[name] = known[alike] = file
    if not found:
        raise FileNotFoundError(f"There are no images in {', '.join(map(str, paths))}.")
    return found


def _of(path: Path) -> list[Path]:
    """The file itself, or the pictures of a folder, in the order of their names."""
    if not path.is_dir():
        return [path]
    files = (file for file in sorted(path.iterdir()) if not file.name.startswith("."))
    return [file for file in files if file.suffix.lower() in ENDINGS]


def _alike(name: str) -> str:
    return normalize("NFC", name).casefold()
