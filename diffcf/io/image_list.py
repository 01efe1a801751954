"""Which files of a folder are pictures: those to answer, and those that tables name inexactly."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from unicodedata import normalize

from PIL.PngImagePlugin import PngInfo

from diffcf.io.errors import DataError, OutputError
from diffcf.io.images import FORMATS, UnusableImage, open_image

ENDINGS = {f".{form.lower()}" for form in FORMATS} | {".jpg", ".tif"}
# File systems allow 255 bytes; an output adds its number in a sequence, ".png" and ".part".
LONGEST = 255 - len("_1000.png.part")
MARK = "diffcf"
"""Keyword of the text in a PNG that we made for people and that is no answer of a model."""
SHEET, RECORD = "sheet", "factors.json"
"""Name of the picture of all answers in a folder of them, and of the file that describes them."""


def mark(what: str) -> PngInfo:
    """The text that marks a PNG as a by-product; ``what`` says of which kind."""
    info = PngInfo()
    info.add_text(MARK, what)
    return info


def image_files(paths: Sequence[Path], taken: Collection[str] = ()) -> dict[str, Path]:
    """Image files, by the name (without ending) that the output made from each gets.

    Of a folder, its :func:`pictures` are taken, ordered by name. The command itself uses the output
    names ``taken``.

    Raises:
        OutputError: when two outputs would get one name (also on a file system that ignores case),
            or one of ``taken``.
        DataError: when a file is missing, there is none, or a name is too long.
    """
    found: dict[str, Path] = {}  # by folded name
    listed = (file for path in paths for file in (pictures(path)[0] if path.is_dir() else [path]))
    for file in listed:
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


def pictures(folder: Path, below: bool = False) -> tuple[list[Path], list[Path]]:
    """The visible files with a picture's ending, by name, and our own by-products among them.

    By-products are what diffcf draws for people: sheets, strips, figures, answers in the uncropped
    picture. ``below`` takes those of subfolders too.
    """
    found: tuple[list[Path], list[Path]] = ([], [])
    for file in sorted(folder.rglob("*") if below else folder.iterdir()):
        visible = not any(part.startswith(".") for part in file.relative_to(folder).parts)
        if visible and file.suffix.lower() in ENDINGS:
            found[_is_by_product(file)].append(file)
    return found


def _is_by_product(file: Path) -> bool:
    if file.suffix.lower() != ".png":
        return False
    if file.stem == SHEET and (file.parent / RECORD).is_file():  # older sheets bear no mark
        return True
    try:
        with open_image(file, ("PNG",)) as picture:
            return MARK in picture.info
    except UnusableImage:  # whoever decodes it says what is wrong
        return False


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()


def resolve_names(root: Path, names: Sequence[str], origin: Sequence[str]) -> list[str]:
    """Names relative to ``root``, each as the file is called.

    A name without a picture's ending, or with another than the file's, stands for the one picture
    of its folder that is called so but for the ending. A name of which there is no such file either
    is returned as it is. ``origin`` is where each name stands, for error messages.

    Raises:
        DataError: when several pictures are called so, or two names mean the same picture.
    """

    @cache
    def files_in(folder: str) -> tuple[set[str], dict[str, list[str]]]:
        """All names in a folder, and its pictures by their name without ending."""
        try:
            present = sorted(os.listdir(root / folder))
        except (OSError, ValueError):
            return set(), {}
        by_stem: dict[str, list[str]] = {}
        for name in present:
            stem, ending = os.path.splitext(name)
            if ending.lower() in ENDINGS and not name.startswith("."):
                by_stem.setdefault(stem, []).append(name)
        return set(present), by_stem

    resolved, first = [], dict[str, int]()
    for place, name in enumerate(names):
        folder, file = os.path.split(name)
        present, by_stem = files_in(folder)
        if file not in present:
            stem, ending = os.path.splitext(file)
            alike = by_stem.get(stem if ending.lower() in ENDINGS else file, [])
            if len(alike) > 1:
                raise DataError(
                    f"Image {root / name} ({origin[place]}) could be {' or '.join(alike)}: write "
                    "its ending in the table."
                )
            name = os.path.join(folder, alike[0]) if alike else name
        if name in first:
            raise DataError(
                f"Image {root / name} is named by {origin[first[name]]} and by {origin[place]}: "
                "keep one of the rows."
            )
        first[name] = place
        resolved.append(name)
    return resolved
