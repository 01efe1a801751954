"""What one visitor does with one image: factors set, steps taken, changes undone.

Steps follow one another as in :func:`diffcf.methods.interface.predict_sequence`. Only the causal
model runs here; images are left to :meth:`diffcf.app.inference.Query.run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from diffcf.api import Model
from diffcf.app.inference import Query, Result, Step, Worlds
from diffcf.causal import CausalGraph, Intervention
from diffcf.io import InterventionError

Role = Literal["set", "held", "moved", "still"]
"""Of a factor: set in this step; set in an earlier one; an effect of these; as in the factual."""

MOST_UNDONE = 200  # changes


def causal_graph(model: Model) -> CausalGraph:
    """The graph that the model's answers follow: the learned one, where it learned one."""
    learned = getattr(getattr(model.module, "nscm", None), "learned", None)
    return model.graph if learned is None else learned()


def do_text(do: Mapping[str, float], graph: CausalGraph) -> str:
    """``do(light = 1.40)``, of values in [0, 1] units."""
    chosen = (factor for factor in graph.factors if factor.name in do)
    pairs = (f"{f.name.replace('_', ' ')} = {f.text(do[f.name])}" for f in chosen)
    return f"do({', '.join(pairs)})"


class Session:
    """The interventions on one image, whose ``worlds`` are given."""

    def __init__(self, worlds: Worlds) -> None:
        self.start, self.graph = worlds, causal_graph(worlds.model)
        self.steps: tuple[Step, ...] = ()  # those that were taken, first to last
        self.do: Mapping[str, float] = {}  # what the current step sets, in [0, 1] units by name
        self.version = 0  # number of changes so far; results of older queries have a smaller one
        self._past: deque[tuple[tuple[Step, ...], Mapping[str, float]]] = deque(maxlen=MOST_UNDONE)
        self._dragged: str | None = None  # the factor that the last change set

    @property
    def held(self) -> dict[str, float]:
        """What earlier steps set, in [0, 1] units by factor name."""
        return {name: value for step in self.steps for name, value in step.do.items()}

    @property
    def full_do(self) -> dict[str, float]:
        """Everything that is set, likewise: what this step sets counts where both do."""
        return {**self.held, **self.do}

    @property
    def factors(self) -> Tensor:
        """``[K]`` in [0, 1] units: the counterfactual factors that the causal model predicts."""
        world = self.steps[-1].inferred if self.steps else self.start.inferred
        return world.factors_under(self.full_do)[0].cpu()

    @property
    def factual(self) -> Tensor:
        """``[K]`` in [0, 1] units: the factors of the image itself."""
        return self.start.inferred.factors[0].cpu()

    @property
    def roles(self) -> dict[str, Role]:
        """The role of every factor. Effects follow edges that no intervention cuts."""
        held, roles = self.held, dict[str, Role]()
        for name in self.graph.order:
            affected = any(roles[cause] != "still" for cause in self.graph.parents(name))
            unset: Role = "moved" if affected else "still"
            roles[name] = "set" if name in self.do else "held" if name in held else unset
        return roles

    def query(self) -> Query:
        """The query whose answer the page should show."""
        last = self.steps[-1] if self.steps else None
        return Query(self.start, last, self.full_do if self.do else None, self.version)

    def set(self, name: str, value: float | str) -> None:
        """Set a factor in this step, in native units or by the name of a category.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value out of range, or none of its levels.
        """
        factor = self.graph.factors[self.graph.column(name)]
        scaled = factor.scaled(value) if isinstance(value, str) else factor.to_scaled(value)
        if -factor.slack < scaled < 1 + factor.slack:
            scaled = min(max(scaled, 0.0), 1.0)
        # The nearest level of a discrete factor, or an error.
        values = Intervention.from_do({name: scaled}, self.graph, 1).values
        scaled = float(values[0, self.graph.column(name)])
        # Dragging a slider is one change, however many values it passes.
        self._change(self.steps, {**self.do, name: scaled}, undoable=self._dragged != name)
        self._dragged = name

    def toggle(self, name: str) -> None:
        """Set a factor to its present value, or no longer set it, so that it follows its causes.

        Raises:
            GraphError: for an unknown factor.
            InterventionError: for one that an earlier step set.
        """
        column, do = self.graph.column(name), dict(self.do)
        if name in do:
            del do[name]
        elif name in self.held:
            raise InterventionError(
                f"{name} was set in an earlier step, and stays set: move it, or undo that step."
            )
        else:
            do[name] = float(self.graph.factors[column].snap(self.factors[column]))
        self._change(self.steps, do)

    def take(self, result: Result) -> None:
        """Finish the current step: ``result``, the answer to :meth:`query`, is its counterfactual.

        Raises:
            InterventionError: when nothing is set in this step, or the result is of another query.
        """
        if not self.do:
            raise InterventionError("Nothing is set yet: move a slider first.")
        if result.do != self.full_do:
            raise InterventionError("The image is not ready yet: take the step when it is shown.")
        self._change((*self.steps, Step(self.do, result, self.query())), {})

    def undo(self) -> None:
        """Go back by one change, if there is one."""
        if self._past:
            self.steps, self.do = self._past.pop()
            self.version, self._dragged = self.version + 1, None

    def restart(self) -> None:
        """Back to the factual image; this too can be undone."""
        if self.steps or self.do:
            self._change((), {})

    @property
    def can_undo(self) -> bool:
        return bool(self._past)

    def _change(
        self, steps: tuple[Step, ...], do: Mapping[str, float], undoable: bool = True
    ) -> None:
        if undoable:
            self._past.append((self.steps, self.do))
        self.steps, self.do, self._dragged = steps, do, None
        self.version += 1
