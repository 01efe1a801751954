"""What one visitor does with one image: factors set, steps taken, changes undone.

Steps follow one another as in :func:`diffcf.methods.interface.predict_sequence`. Only the causal
model runs here; images are left to :meth:`diffcf.app.inference.Query.run`.
"""

from __future__ import annotations

from collections import deque
from itertools import compress
from typing import Literal

from torch import Tensor

from diffcf.api import Model
from diffcf.app.asking import Settings, in_scaled_units, is_change, setting
from diffcf.app.inference import Query, Question, Result, Step, Worlds
from diffcf.causal import CausalGraph, Intervention, extrapolation
from diffcf.io import InterventionError
from diffcf.methods import World

Role = Literal["set", "held", "moved", "still"]
"""Of a factor: set in this step; set in an earlier one; an effect of these; as in the factual."""

MOST_UNDONE = 200  # changes


def causal_graph(model: Model) -> CausalGraph:
    """The graph that the model's answers follow: the learned one, where it learned one."""
    learned = getattr(getattr(model.module, "nscm", None), "learned", None)
    return model.graph if learned is None else learned()


class Session:
    """The interventions on one image, whose ``worlds`` are given."""

    def __init__(self, worlds: Worlds) -> None:
        self.start, self.graph = worlds, causal_graph(worlds.model)
        self.version = 0  # number of changes so far; results of older queries have a smaller one
        self._past: deque[tuple[tuple[Step, ...], Settings]] = deque(maxlen=MOST_UNDONE)
        self._put((), {})

    def _put(self, steps: tuple[Step, ...], do: Settings) -> None:
        """Have these steps and settings; errors as :meth:`replace`, and nothing is changed."""
        world, last = self.start.inferred, steps[-1].result.answer if steps else None
        before = Intervention.none(world.factors) if last is None else last.intervention
        asked = in_scaled_units(do, self.graph)
        added = world.intervention(asked, None if last is None else last.factors)
        self.steps, self.do = steps, do  # those taken, first to last; what the current step sets
        self.intervention = before.then(added)  # everything that is set in this image
        self._before, self._added = before.mask[0].tolist(), added.mask[0].tolist()
        self._dragged: str | None = None  # the factor that the last change set by a slider

    @property
    def question(self) -> Question:
        """What every step sets, the current one last if it sets anything."""
        taken = tuple(step.do for step in self.steps)
        return (*taken, self.do) if self.do else taken

    @property
    def factors(self) -> Tensor:
        """``[K]`` in [0, 1] units: the counterfactual factors that the causal model predicts."""
        return self._world.factors_under(self.intervention)[0].cpu()

    @property
    def factual(self) -> Tensor:
        """``[K]`` in [0, 1] units: the factors of the image itself."""
        return self.start.inferred.factors[0].cpu()

    @property
    def undetermined(self) -> dict[str, str]:
        """Why, by factor, for those whose change the model's training data do not teach."""
        world, do = self._world, self.intervention
        target = world.factors_under(do)
        flags = world.undetermined(target, world.followed(do, target))
        if world.ties is None or flags is None:
            return {}
        names = compress(self.graph.names, flags[0].tolist())
        return {name: world.ties.sentence(name) for name in names}

    @property
    def extrapolated(self) -> dict[str, str]:
        """What to say, by factor, of those set to what the data hardly have beside their causes."""
        do, factual = self.intervention, self.start.inferred.factors
        target = self._world.factors_under(do)
        flags = self.start.model.extrapolated(factual, target, do.mask)
        names = compress(self.graph.names, flags[0].tolist())
        return {name: extrapolation(self.graph, name) for name in names}

    @property
    def _world(self) -> World:
        return self.steps[-1].inferred if self.steps else self.start.inferred

    @property
    def roles(self) -> dict[str, Role]:
        """The role of every factor. Effects follow edges that no intervention cuts."""
        roles, column = dict[str, Role](), self.graph.column
        for name in self.graph.order:
            affected = any(roles[cause] != "still" for cause in self.graph.parents(name))
            unset: Role = "moved" if affected else "still"
            held: Role = "held" if self._before[column(name)] else unset
            roles[name] = "set" if self._added[column(name)] else held
        return roles

    @property
    def notes(self) -> dict[str, str]:
        """By factor, what this step sets it to, where that is no plain value."""
        notes = {}
        for name, text in self.do.items():
            if is_change(text, self.graph):
                is_set = self._added[self.graph.column(name)]
                notes[name] = text if is_set else f"{text}: not so in this image, nothing is set"
        return notes

    def query(self) -> Query:
        """The query whose answer the page should show."""
        last = self.steps[-1] if self.steps else None
        do = self.intervention if self.do else None
        return Query(self.start, last, self.question, do, self.version)

    def set(self, name: str, value: float | str) -> None:
        """Set a factor in this step, in native units or by the name of a category.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range, or none of its levels.
        """
        factor = self.graph.factors[self.graph.column(name)]
        scaled = factor.scaled(value) if isinstance(value, str) else factor.to_scaled(value)
        # Dragging a slider is one change, however many values it passes.
        is_first = self._dragged != name
        self._change(self.steps, {**self.do, name: setting(factor, scaled)}, undoable=is_first)
        self._dragged = name

    def replace(self, settings: Settings) -> None:
        """Set in this step what ``settings`` say, and nothing else.

        Raises:
            GraphError, InterventionError: as :func:`diffcf.app.asking.parse_settings`.
        """
        if settings != self.do:
            self._change(self.steps, settings)

    def toggle(self, name: str) -> None:
        """Set a factor to its present value, or no longer set it, so that it follows its causes.

        Raises:
            GraphError: for an unknown factor.
            InterventionError: for one that an earlier step set.
        """
        column, do = self.graph.column(name), dict(self.do)
        if name in do and self._added[column]:
            del do[name]
        elif self._before[column]:
            raise InterventionError(
                f"{name} was set in an earlier step, and stays set: move it, or undo that step."
            )
        else:
            factor = self.graph.factors[column]
            do[name] = setting(factor, float(factor.snap(self.factors[column])))
        self._change(self.steps, do)

    def take(self, result: Result) -> None:
        """Finish the current step: ``result``, the answer to :meth:`query`, is its counterfactual.

        Raises:
            InterventionError: when nothing is set in this step, or the result is of another query.
        """
        if not self.do:
            raise InterventionError(
                "Nothing is set yet: move a slider first, or write what to set."
            )
        if result.question != self.question:
            raise InterventionError("The image is not ready yet: take the step when it is shown.")
        self._change((*self.steps, Step(self.do, result, self.query())), {})

    def undo(self) -> None:
        """Go back by one change, if there is one."""
        if self._past:
            self._put(*self._past.pop())
            self.version += 1

    def restart(self) -> None:
        """Back to the factual image; this too can be undone."""
        if self.steps or self.do:
            self._change((), {})

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    def _change(self, steps: tuple[Step, ...], do: Settings, undoable: bool = True) -> None:
        before = (self.steps, self.do)
        self._put(steps, do)
        if undoable:
            self._past.append(before)
        self.version += 1


def replayed(worlds: Worlds, question: Question, taken: int) -> Session:
    """A session in which a question was asked, whose first ``taken`` steps were taken. Slow.

    Raises:
        GraphError, InterventionError: as :func:`diffcf.app.asking.parse_settings`.
    """
    session = Session(worlds)
    for settings in question[:taken]:
        session.replace(settings)
        session.take(session.query().run())
    for settings in question[taken:]:
        session.replace(settings)
    return session
