"""What ``diffcf counterfactual`` does with one batch: answer it, then save the answers as files.

The first is the networks' work, the second that of a thread of its own: what passes between them
lies in main memory and depends on nothing that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffcf.api import AbductedImages, Answer, Model
from diffcf.causal import (
    CausalGraph,
    Change,
    Do,
    Units,
    parse_do,
    parse_sweep,
    scaled_do,
    written,
)
from diffcf.io import (
    SHEET,
    ImageTransform,
    SettingsError,
    mark,
    to_picture,
    uncrop,
    whole_file,
)
from diffcf.methods import FRESH, check_draws
from diffcf.reporting import save_figure, save_image, show

ROWS = 12
"""How many images the picture of all shows."""
UNCROPPED = "uncropped"
"""Folder of the answers put back into whole pictures."""
SPREAD, WIDEST, SHOWN_DRAWS = "spread", 0.5, 4
"""Folder of the maps of spread; the standard deviation that they show white; draws on the sheet."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image, checked.

    Attributes:
        dos: interventions in [0, 1] units, one after another, or in a sweep each by itself.
        titles: what each is called above its picture.
        sweep: whether each is asked by itself, and all share a strip.
        units: of values that are shown.
        seed: of the noise of discrete factors, and of draws.
        draws: how many counterfactuals of each image; in a sequence of its last step.
        fresh: share of fresh noise where the content of an image changes.
    """

    dos: Sequence[Do]
    titles: Sequence[str]
    sweep: bool
    units: Units
    seed: int
    draws: int = 1
    fresh: float = FRESH

    @property
    def varies(self) -> bool:
        """Whether what is set differs from image to image."""
        return any(isinstance(value, Change) for do in self.dos for value in do.values())

    @classmethod
    def of(
        cls,
        model: Model,
        steps: Sequence[Sequence[str]],
        sweep: str | None,
        units: Units,
        seed: int,
        draws: int = 1,
        fresh: float = FRESH,
    ) -> Question:
        """From texts: of each step its ``name=value``, or of a sweep ``name=first:last:count``.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value that is out of range, or no number.
            SettingsError: for draws out of range, or of a sweep.
        """
        check_draws(draws, fresh)
        if sweep and draws > 1:
            raise SettingsError("A sweep has one answer for each value: ask for draws with --do.")
        if sweep:
            factor, values = parse_sweep(sweep, model.graph)
            dos: list[Do] = [{factor: value} for value in values]
        else:
            dos = [parse_do(texts, model.graph) for texts in steps]
        scaled = [scaled_do(do, model.graph, units) for do in dos]
        return cls(scaled, list(map(_title, dos)), bool(sweep), units, seed, draws, fresh)


@dataclass(frozen=True)
class Drawn:
    """The answers about a batch of images, in main memory.

    Attributes:
        names: B names.
        images: the factuals, ``[B, C, S, S]`` in [-1, 1].
        answers: likewise, for each intervention.
        titles: of the interventions.
        rows: the entry of each image in the record; in a sweep a list with one for each value.
        sweep: whether the answers become strips.
        spread: of draws, which the answers then are, ``[B, S, S]``; None of one answer.
    """

    names: Sequence[str]
    images: Tensor
    answers: Sequence[Tensor]
    titles: Sequence[str]
    rows: Sequence[object]
    sweep: bool
    spread: Tensor | None = None


def draw(
    model: Model,
    question: Question,
    names: Sequence[str],
    images: Tensor,
    told: Tensor,
    tick: Callable[[], object] = lambda: None,
) -> Drawn:
    """Answer about a batch of images ``[B, C, S, S]``; ``tick`` is called after each draw.

    Their factors that are observed are ``told``, ``[B, K]`` in [0, 1] units; NaN is to be read.
    """
    known = None if told.isnan().all() else told  # weights that read nothing then say so themselves
    world = model.abduct(images, known, seed=question.seed)
    if question.draws > 1:
        return _draws(world, question, names, images, told, tick)
    answers = list(_answers(world, question))
    if question.sweep:
        each = [_rows(model, [answer], told, question) for answer in answers]
        rows: list[object] = [list(of_image) for of_image in zip(*each, strict=True)]
    else:
        rows = list(_rows(model, answers, told, question))
    drawn = [answer.image.cpu() for answer in answers]
    tick()
    return Drawn(names, images, drawn, question.titles, rows, question.sweep)


def _draws(
    world: AbductedImages,
    question: Question,
    names: Sequence[str],
    images: Tensor,
    told: Tensor,
    tick: Callable[[], object],
) -> Drawn:
    """Draws of the last step, each the answer about a batch of images."""
    last: list[Answer] = []
    each = world.drawn(question.dos, "scaled", question.draws, question.seed, question.fresh)
    for answers in each:
        answer = answers[-1]
        last.append(replace(answer, image=answer.image.cpu()))
        tick()
    draws = world.gathered(last)
    low, high = draws.interval()
    graph, units = world.model.graph, question.units
    columns: dict[str, Iterable[object]] = {
        "factual": _values(graph, graph.whole(world.factors), units),
        "given": _named(graph, ~told.isnan()),
        "target": zip(*(_values(graph, each, units) for each in draws.targets), strict=True),
        "low": _values(graph, low, units),
        "high": _values(graph, high, units),
        "clipped": _named(graph, draws.clipped),
        "undetermined": _named(graph, draws.undetermined),
        "intervened": _named(graph, draws.intervened),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    titles = [question.titles[-1], *(f"draw {k}" for k in range(2, question.draws + 1))]
    return Drawn(names, images, list(draws.images), titles, rows, False, draws.spread)


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


def _answers(world: AbductedImages, question: Question) -> Iterator[Answer]:
    if question.sweep:
        for do in question.dos:
            yield world.predict(do)
    else:
        yield from world.sequence(question.dos)


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


def _rows(
    model: Model, answers: Sequence[Answer], told: Tensor, question: Question
) -> list[dict[str, object]]:
    """The entry of each image of a batch in ``factors.json``; ``--do`` takes its values."""
    graph, last = model.graph, answers[-1]
    rows = partial(_values, graph, units=question.units)
    named = partial(_named, graph)
    clipped = torch.stack([answer.clipped for answer in answers]).any(dim=0)
    undetermined = torch.stack([answer.undetermined for answer in answers]).any(dim=0)
    nothing = [None] * len(last.image)
    columns: dict[str, Iterable[object]] = {
        "factual": rows(last.factors),
        "given": named(~told.isnan()),
        "exogenous": nothing if last.exogenous is None else last.exogenous.tolist(),
        "target": zip(*(rows(answer.target) for answer in answers), strict=True),
        "read": rows(model.read(last.image)) if model.module.reads else nothing,
        "clipped": named(clipped),
        "undetermined": named(undetermined),
    }
    if question.varies:
        columns["intervened"] = named(last.intervened)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(graph: CausalGraph, factors: Tensor, units: Units) -> list[list[float | str]]:
    """Factors ``[B, K]`` in [0, 1] units as ``--do`` takes them."""
    native = graph.native_rows(factors)
    if units == "native":
        return native
    pairs = zip(factors.tolist(), native, strict=True)
    return [[n if isinstance(n, str) else z for z, n in zip(*row, strict=True)] for row in pairs]


def _named(graph: CausalGraph, chosen: Tensor) -> list[list[str]]:
    """Names of the factors that are ``chosen`` ``[B, K]``."""
    return [list(compress(graph.names, row)) for row in chosen.tolist()]


def _map(spread: Tensor) -> Tensor:
    """A spread ``[S, S]`` as a grey picture ``[1, S, S]``: black is none, white :data:`WIDEST`."""
    return (2 * (spread / WIDEST).clamp(max=1) - 1)[None]


def _title(do: Do) -> str:
    return f"do({', '.join(written(name, value) for name, value in do.items())})"


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
