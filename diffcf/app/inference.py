"""Counterfactuals of one image: the worlds that predict them, queries, and the thread they run on.

Networks may take seconds, so each :class:`Query` on the :class:`Worlds` of an image waits in the
:class:`LatestOnlyQueue` of its tab for the one :class:`InferenceThread`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from diffcf.api import Model
from diffcf.app.asking import Settings
from diffcf.app.gallery import Subject
from diffcf.causal import Intervention
from diffcf.methods import Counterfactual, World

T = TypeVar("T")
Question = tuple[Settings, ...]
"""What each step of a sequence sets."""


@dataclass(frozen=True)
class Result:
    """The answer to a query."""

    question: Question  # what each step set
    answer: Counterfactual  # the model's, a batch of one
    exact: Counterfactual | None  # the scene's, where it is known
    read: Tensor | None  # [K] in [0, 1] units, read back from the model's image, if by anything
    in_frame: bool  # whether the exact image shows its objects whole, for the ruler to read

    @property
    def image(self) -> Tensor:
        """The model's image ``[C, S, S]`` in [-1, 1]."""
        return self.answer.image[0]

    @property
    def is_set(self) -> bool:
        """Whether anything was set: no condition may have been met."""
        return bool(self.answer.intervention.mask.any())


@dataclass(frozen=True)
class Worlds:
    """The model's world of one image and, where it is known, the scene's."""

    model: Model
    subject: Subject  # the factual image
    inferred: World  # the model's, a batch of one
    true: World | None  # the scene's; None where there are no exact counterfactuals

    @property
    def reader(self) -> str | None:
        """What reads factors back: the scene's ruler (its analytic read-out), or the model."""
        if self.subject.scene is not None:
            return "the scene's ruler"
        return "the model itself" if self.model.module.reads else None

    @property
    def factual(self) -> Result:
        """The answer without any intervention: the factual image itself."""
        image, factors = self.subject.image[None].to(self.inferred.image), self.inferred.factors
        return self._result((), Counterfactual(image, factors, Intervention.none(factors)))

    def predict(self, question: Question, do: Intervention) -> Result:
        """The counterfactual under ``do``, which is what ``question`` sets in this image. Slow."""
        return self._result(question, self.inferred.predict(do))

    def reabduct(self, result: Result) -> Worlds:
        """The same worlds, with their causal noise, but inferred from the images of ``result``."""
        true = self.true
        if true is not None and result.exact is not None:
            true = true.reabduct(result.exact)
        return replace(self, inferred=self.inferred.reabduct(result.answer), true=true)

    def _result(self, question: Question, answer: Counterfactual) -> Result:
        exact = None if self.true is None else self.true.predict(answer.intervention.to("cpu"))
        scene, read, in_frame = self.subject.scene, None, True
        if scene is not None:
            read = scene.read(answer.image.cpu())[0]
            in_frame = exact is None or bool(scene.visible(exact.factors.cpu())[0])
        elif self.model.module.reads:
            read = self.model.read(answer.image)[0].cpu()
        return Result(question, answer, exact, read, in_frame)


def open_worlds(model: Model, subject: Subject, seed: int = 0) -> Worlds:
    """Abduct an image once, for any number of interventions; see :meth:`Model.abduct`.

    Raises:
        ValueError: when its factors are not known and the model cannot read them.
    """
    if subject.factors is None and not model.module.reads:
        raise ValueError(
            "This model reads no factors off images: pick one whose factors are known."
        )
    observed = None if subject.factors is None else subject.factors[None]
    inferred = model.abduct(subject.image[None], observed, seed=seed).world
    return Worlds(model, subject, inferred, subject.exact_world())


@dataclass(frozen=True)
class Query:
    """The counterfactual that a visitor wants to see; immutable, so any thread can answer it."""

    start: Worlds  # of the factual image
    last: Step | None  # whose image the intervention is made on; None for the factual image
    question: Question  # what each step set, that of this query included
    do: Intervention | None  # everything that it sets in this image; None if nothing since `last`
    version: int  # the session's number of changes when it was asked

    @property
    def worlds(self) -> Worlds:
        return self.start if self.last is None else self.last.after

    def run(self) -> Result:
        """The answer. Slow, unless nothing was ever set."""
        if self.do is not None:
            return self.worlds.predict(self.question, self.do)
        return self.start.factual if self.last is None else self.last.result


@dataclass(frozen=True)
class Step:
    """A finished step of a sequence."""

    do: Settings  # what was set in it
    result: Result  # its counterfactual, the answer to `query`
    query: Query

    @cached_property
    def after(self) -> Worlds:
        """The worlds abducted anew from this step's counterfactual. Slow, once."""
        return self.query.worlds.reabduct(self.result)

    @property
    def inferred(self) -> World:
        """The model's world after this step; that of the factual until ``after`` is computed.

        Never slow. Both predict the same factors, except for methods that read latents off images.
        """
        return vars(self).get("after", self.query.start).inferred


class InferenceThread:
    """One thread for all that networks do, since they share the processor: one task at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diffcf-inference")

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class LatestOnlyQueue:
    """Runs one tab's queries on the thread of all tabs; only the newest that waits is kept.

    ``show`` gets each query, its result, and the seconds since it was asked; ``fail`` gets what a
    query raised; ``busy`` is whether a query is running or waiting.
    """

    def __init__(
        self,
        thread: InferenceThread,
        show: Callable[[Query, Result, float], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.thread, self.show, self.fail, self.busy = thread, show, fail, False
        self._waiting: deque[tuple[Query, float]] = deque(maxlen=1)

    async def put(self, query: Query) -> None:
        """Run ``query`` when the thread is free, unless a newer one replaces it before that."""
        self._waiting.append((query, time.perf_counter()))
        if self.busy:
            return
        self.busy = True
        try:
            while self._waiting:
                try:
                    answered, result, since = await self.thread.run(self._next)
                except Exception as error:  # whatever it is, the tab must remain usable
                    self.fail(error)
                    continue
                # While a slider moves, older results of the same image are shown on the way.
                if not self._waiting or self._waiting[0][0].start is answered.start:
                    self.show(answered, result, time.perf_counter() - since)
        finally:
            self.busy = False

    def _next(self) -> tuple[Query, Result, float]:
        query, since = self._waiting.pop()
        return query, query.run(), since
