"""Answers about a batch as files: pictures, strips of a sweep, maps of spread, the sheet of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffcf.commands.answering import Drawn
from diffcf.io import SHEET, ImageTransform, mark, to_picture, uncrop, whole_file
from diffcf.reporting import save_figure, save_image, show

ROWS = 12
"""How many images the picture of all shows."""
UNCROPPED = "uncropped"
"""Folder of the answers put back into whole pictures."""
SPREAD, WIDEST, SHOWN_DRAWS = "spread", 0.5, 4
"""Folder of the maps of spread; the standard deviation that they show white; draws on the sheet."""


def save(
    drawn: Drawn,
    folder: Path,
    sheet: bool = False,
    whole: tuple[Sequence[Path], ImageTransform] | None = None,
) -> list[list[str]]:
    """Save a batch in a folder; of each image the names of the files.

    Args:
        drawn: the answers.
        folder: where to save them.
        sheet: whether the batch is the one that the picture of all shows.
        whole: the image files, and how they became images, where the answers are put back into
            whole pictures, too.

    Raises:
        OutputError: when a file cannot be written.
        DataError: when an image file is no longer what it was.
    """
    saved: list[list[str]] = [[] for _ in drawn.names]
    if sheet and not drawn.sweep:
        save_figure(_sheet(drawn, slice(0, ROWS), difference=True), folder / f"{SHEET}.png")
        saved[0].append(f"{SHEET}.png")  # with which the first image is whole
    for place, (name, files) in enumerate(zip(drawn.names, saved, strict=True)):
        answers = [answer[place] for answer in drawn.answers]
        if drawn.sweep:
            files.append(f"{name}.png")
            save_figure(_sheet(drawn, slice(place, place + 1)), folder / files[-1])
        else:
            for title, image in zip(_numbered(name, len(answers)), answers, strict=True):
                files.append(f"{title}.png")
                save_image(image, folder / files[-1])
        if drawn.spread is not None:
            files.append(f"{SPREAD}/{name}.png")
            with whole_file(folder / files[-1], durable=False) as unfinished:
                picture = to_picture(_map(drawn.spread[place]))
                picture.save(unfinished, "PNG", pnginfo=mark(SPREAD))
        if whole is not None:
            files += _save_whole(whole[0][place], whole[1], answers, folder)
    return saved


def _numbered(name: str, count: int) -> list[str]:
    """Names of the answers about an image."""
    return [name] if count == 1 else [f"{name}_{step}" for step in range(1, count + 1)]


def _save_whole(
    file: Path, transform: ImageTransform, answers: Sequence[Tensor], folder: Path
) -> list[str]:
    """Save the answers about a file in its whole picture, which no data set counts; their names."""
    names = [f"{UNCROPPED}/{name}.png" for name in _numbered(file.stem, len(answers))]
    for name, picture in zip(names, uncrop(file, transform, answers), strict=True):
        with whole_file(folder / name, durable=False) as unfinished:
            picture.save(unfinished, "PNG", pnginfo=mark(UNCROPPED))
    return names


def _sheet(drawn: Drawn, shown: slice, difference: bool = False) -> Figure:
    """A row for each of the images ``shown``, a column for the factual and each intervention."""
    few = None if drawn.spread is None else SHOWN_DRAWS
    names, pictures = drawn.names[shown], [drawn.images, *drawn.answers[:few]]
    titles = ["factual", *drawn.titles[:few]]
    columns = dict(zip(titles, (p[shown] for p in pictures), strict=True))
    if drawn.spread is not None:
        columns["spread"] = torch.stack([_map(spread) for spread in drawn.spread[shown]])
    elif difference:
        columns["difference"] = 1 - (drawn.answers[-1][shown] - drawn.images[shown]).abs()
    figure = Figure((1.3 * len(columns), 1.3 * len(names) + 0.3), dpi=150, layout="constrained")
    grid = figure.subplots(len(names), len(columns), squeeze=False)
    for (line, row), name in zip(enumerate(grid), names, strict=True):
        label = name.encode("utf-8", "replace").decode()  # a file may have any name
        row[0].set_ylabel(label, fontsize=6, parse_math=False)
        for axis, (title, images) in zip(row, columns.items(), strict=True):
            show(axis, images[line])
            if line == 0:
                axis.set_title(title, fontsize=6, parse_math=False)
    return figure


def _map(spread: Tensor) -> Tensor:
    """A spread ``[S, S]`` as a grey picture ``[1, S, S]``: black is none, white :data:`WIDEST`."""
    return (2 * (spread / WIDEST).clamp(max=1) - 1)[None]
