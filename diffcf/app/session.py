"""What one visitor asks of one image: what is set, in which steps, and what is undone.

Interventions are made in turn, as :func:`diffcf.methods.interface.predict_sequence` has it: a step that was
taken stays set, and the next one is made upon the image it left. No network draws here, and nothing
is known of a user interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from diffcf.app.worlds import Result, Worlds, causal_graph
from diffcf.causal import Intervention
from diffcf.io import InterventionError
from diffcf.methods import World

Role = Literal["set", "held", "moved", "still"]
"""Set in this step; set in an earlier one; moved by what is set; as in the factual."""

LONGEST = 200
"""Changes that can be undone."""


@dataclass(frozen=True)
class Step:
    """A step that was taken.

    Attributes:
        pins: what was set in it, in [0, 1] units by factor name.
        drawing: its counterfactual.
        start: the worlds of the image itself.
        before: the step before it; None for the first.
    """

    pins: Mapping[str, float]
    drawing: Result
    start: Worlds
    before: Step | None

    @cached_property
    def after(self) -> Worlds:
        """The worlds as seen in this step's counterfactual; slow, once."""
        return _worlds(self.start, self.before).after(self.drawing)

    @property
    def inferred(self) -> World:
        """The model's world after this step, or that of the start until :attr:`after` is known.

        Both say the same of the factors, except for methods whose latents are read off images.
        """
        return vars(self).get("after", self.start).inferred


@dataclass(frozen=True)
class Query:
    """A question as it stood, which can be answered in another thread, one after another.

    Attributes:
        start: the worlds of the image itself.
        last: the step upon whose image is asked; None for the image itself.
        do: all that is set; None where nothing is since ``last``.
        number: how many changes came before.
    """

    start: Worlds
    last: Step | None
    do: Intervention | None
    number: int

    def draw(self) -> Result:
        """The answer: slow, unless nothing was ever set."""
        worlds = _worlds(self.start, self.last)
        if self.do is not None:
            return worlds.draw(self.do)
        return self.start.factual if self.last is None else self.last.drawing


def _worlds(start: Worlds, last: Step | None) -> Worlds:
    return start if last is None else last.after


@dataclass(frozen=True)
class _State:
    steps: tuple[Step, ...] = ()
    pins: Mapping[str, float] = field(default_factory=dict)


class Session:
    """The questions about one image.

    Args:
        worlds: of the image; see :func:`diffcf.app.worlds.open_worlds`.

    Attributes:
        graph: by which effects follow.
        number: of changes so far; an answer to an older question has a smaller one.
    """

    def __init__(self, worlds: Worlds) -> None:
        self.start, self.graph = worlds, causal_graph(worlds.model)
        self.number = 0
        self._state = _State()
        self._past: list[_State] = []
        self._moving: str | None = None  # the factor that the last change set

    # --- what is asked ---

    @property
    def pins(self) -> Mapping[str, float]:
        """What is set in this step, in [0, 1] units by factor name."""
        return self._state.pins

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that were taken, first to last."""
        return self._state.steps

    @property
    def held(self) -> dict[str, float]:
        """What earlier steps set, in [0, 1] units by factor name."""
        held: dict[str, float] = {}
        for step in self.steps:
            held |= step.pins
        return held

    @property
    def intervention(self) -> Intervention:
        """All that is set, of a batch of one."""
        like = self.start.inferred.image
        return Intervention.from_do({**self.held, **self.pins}, self.graph, 1, like.device)

    @property
    def factors(self) -> Tensor:
        """``[K]`` in [0, 1] units: what the causal model says they are now, without drawing."""
        world = self.start.inferred if self._last is None else self._last.inferred
        return world.factors_under(self.intervention)[0].cpu()

    @property
    def factual(self) -> Tensor:
        """``[K]`` in [0, 1] units, of the image itself."""
        return self.start.inferred.factors[0].cpu()

    def role(self, name: str) -> Role:
        """What becomes of a factor; GraphError for an unknown one."""
        self.graph.column(name)
        if name in self.pins:
            return "set"
        return "held" if name in self.held else "moved" if name in self.moved else "still"

    @property
    def moved(self) -> frozenset[str]:
        """Factors that what is set reaches, by edges that it does not cut."""
        cut = {*self.held, *self.pins}
        found: set[str] = set()
        frontier = list(cut)
        while frontier:
            effects = set(self.graph.children(frontier.pop())) - cut - found
            found |= effects
            frontier.extend(effects)
        return frozenset(found)

    @property
    def cut(self) -> frozenset[tuple[str, str]]:
        """Edges into what is set: interventions cut them."""
        fixed = {*self.held, *self.pins}
        return frozenset(edge for edge in self.graph.edges if edge[1] in fixed)

    def asked(self) -> Query:
        """The question as it stands."""
        do = self.intervention if self.pins else None
        return Query(self.start, self._last, do, self.number)

    @property
    def _last(self) -> Step | None:
        return self.steps[-1] if self.steps else None

    # --- changes ---

    def set(self, name: str, value: float | str) -> None:
        """Set a factor in this step, in native units, or by the category's name.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range, or none of its levels.
        """
        factor = self.graph.factors[self.graph.column(name)]
        if isinstance(value, str):
            scaled = factor.scaled(value)
        else:
            scaled = (value - factor.low) / (factor.high - factor.low)
            scaled = min(max(scaled, 0.0), 1.0) if -1e-6 < scaled < 1 + 1e-6 else scaled
        Intervention.from_do({name: scaled}, self.graph, 1)
        # A slider that is dragged is one change, however many places it passes.
        self._change(replace(self._state, pins={**self.pins, name: scaled}), self._moving == name)
        self._moving = name

    def toggle(self, name: str) -> None:
        """Set a factor to the value it has, or leave it to its causes again.

        Raises:
            GraphError: for an unknown factor.
            InterventionError: for one that an earlier step holds.
        """
        column, pins = self.graph.column(name), dict(self.pins)
        if name in pins:
            del pins[name]
        elif name in self.held:
            raise InterventionError(
                f"{name} was set in an earlier step, and stays set: move it, or undo that step."
            )
        else:
            pins[name] = float(self.factors[column].clamp(0, 1))
        self._change(replace(self._state, pins=pins))

    def take(self, drawing: Result) -> None:
        """Make ``drawing``, the answer to :meth:`asked`, the image that the next step is made upon.

        Raises:
            InterventionError: when nothing is set in this step, or the drawing is of another.
        """
        if not self.pins:
            raise InterventionError("Nothing is set yet: move a slider first.")
        asked, answered = self.intervention, drawing.answer.intervention
        same = torch.equal(asked.mask, answered.mask) and torch.equal(asked.values, answered.values)
        if not same:
            raise InterventionError("The image is still being drawn: take the step when it is.")
        step = Step(self.pins, drawing, self.start, self._last)
        self._change(_State((*self.steps, step)))

    def undo(self) -> None:
        """Go back by one change; does nothing where there is none."""
        if self._past:
            self._state = self._past.pop()
            self.number, self._moving = self.number + 1, None

    def restart(self) -> None:
        """Back to the image itself; this too can be undone."""
        if self.steps or self.pins:
            self._change(_State())

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    def _change(self, state: _State, same: bool = False) -> None:
        if not same:
            self._past = [*self._past[-LONGEST + 1 :], self._state]
        self._state, self._moving = state, None
        self.number += 1
