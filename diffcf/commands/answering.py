"""What ``diffcf counterfactual`` asks, and its answers about one batch of images.

The networks' work: what it gives lies in main memory and depends on nothing that goes on, so that
another thread can save it (:mod:`diffcf.commands.answer_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from diffcf.api import AbductedImages, Answer, BacktrackedAnswer, Model
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
from diffcf.io import SettingsError
from diffcf.methods import FRESH, check_draws


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
        backtrack: whether causes are sought that would have led to the values.
    """

    dos: Sequence[Do]
    titles: Sequence[str]
    sweep: bool
    units: Units
    seed: int
    draws: int = 1
    fresh: float = FRESH
    backtrack: bool = False

    @property
    def varies(self) -> bool:
        """Whether what is set differs from image to image."""
        return self.backtrack or any(
            isinstance(value, Change) for do in self.dos for value in do.values()
        )

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
        backtrack: bool = False,
    ) -> Question:
        """From texts: of each step its ``name=value``, or of a sweep ``name=first:last:count``.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value that is out of range, or no number.
            SettingsError: for draws out of range, or of a sweep, and more than one answer by
                backtracking.
        """
        check_draws(draws, fresh)
        if backtrack and (sweep or draws > 1 or len(steps) > 1):
            raise SettingsError(
                "--backtrack has one answer: leave --sweep, --then and --draws out."
            )
        if sweep and draws > 1:
            raise SettingsError("A sweep has one answer for each value: ask for draws with --do.")
        if sweep:
            factor, values = parse_sweep(sweep, model.graph)
            dos: list[Do] = [{factor: value} for value in values]
        else:
            dos = [parse_do(texts, model.graph) for texts in steps]
        scaled = [scaled_do(do, model.graph, units) for do in dos]
        titles = [f"backtracked from {_set(do)}" if backtrack else f"do({_set(do)})" for do in dos]
        return cls(scaled, titles, bool(sweep), units, seed, draws, fresh, backtrack)


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
        "extrapolated": _named(graph, _extrapolated(world.model, last)),
        "intervened": _named(graph, draws.intervened),
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    titles = [question.titles[-1], *(f"draw {k}" for k in range(2, question.draws + 1))]
    return Drawn(names, images, list(draws.images), titles, rows, False, draws.spread)


def _answers(world: AbductedImages, question: Question) -> Iterator[Answer]:
    if question.backtrack:
        yield world.backtrack(question.dos[0])
    elif question.sweep:
        for do in question.dos:
            yield world.predict(do)
    else:
        yield from world.sequence(question.dos)


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
        "extrapolated": named(_extrapolated(model, answers)),
    }
    if question.varies:
        columns["intervened"] = named(last.intervened)
    if isinstance(last, BacktrackedAnswer):
        columns |= {"distance": last.distance.tolist(), "reached": last.reached.tolist()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _extrapolated(model: Model, answers: Sequence[Answer]) -> Tensor:
    """What any answer sets to what hardly comes with its causes, ``[B, K]``, as far as known."""
    if isinstance(answers[-1], BacktrackedAnswer):  # which sets nothing
        return torch.zeros_like(answers[-1].intervened)
    found = [model.extrapolated(a.factors, a.target, a.intervened) for a in answers]
    return torch.stack(found).any(dim=0)


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


def _set(do: Do) -> str:
    return ", ".join(written(name, value) for name, value in do.items())
