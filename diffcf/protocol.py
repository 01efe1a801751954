"""Which interventions an evaluation makes: drawn once for the whole set, from one seed.

Values come from the held-out marginal of the factor: the value that another image of the set has.
Draws whose exact counterfactual the scene cannot show (a shadow that leaves the picture, which no
ruler could read) are drawn anew, and so is the value that a discrete factor has already. Since
everything is drawn before the first batch, neither batch size nor number of processes changes which
image meets which intervention.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from diffcf.graph import CausalGraph
from diffcf.intervention import Intervention

__all__ = ["InterventionPlan"]

_ATTEMPTS = 100

Scm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(factors, values, mask) -> counterfactual factors``, the true model."""


class InterventionPlan:
    """Interventions for ``N`` images.

    Args:
        graph: the factors.
        factors: ``[N, K]``, the factual factors of the whole set.
        scm: the scene's true counterfactual; None where it is not known.
        visible: the scene's test of whether factors can be shown; None where all can.
        steps: length of the sequences.
        seed: of all draws.

    Attributes:
        single: per factor name, an intervention on that factor ``[N, K]``.
        sequence: ``steps`` interventions ``[N, K]``, each on one factor per image that differs
            from the step before.
    """

    def __init__(
        self,
        graph: CausalGraph,
        factors: Tensor,
        scm: Scm | None = None,
        visible: Callable[[Tensor], Tensor] | None = None,
        steps: int = 5,
        seed: int = 0,
    ) -> None:
        self.graph, self.factors = graph, factors
        self._scm, self._visible = scm, visible
        self._generator = Generator().manual_seed(seed)
        nothing = Intervention.none(factors)
        self.single = {
            name: self._draw(nothing, torch.full((len(factors),), column))
            for column, name in enumerate(graph.names)
        }
        # Every image goes through the factors in its own random order, again and again.
        order = torch.rand(factors.shape, generator=self._generator).argsort(dim=1)
        self.sequence: list[Intervention] = []
        held = nothing
        for step in range(steps):
            self.sequence.append(self._draw(held, order[:, step % len(graph)]))
            held = held.then(self.sequence[-1])

    def _draw(self, held: Intervention, column: Tensor) -> Intervention:
        """Set factor ``column`` ``[N]`` of each image, given what is already held."""
        count = len(self.factors)
        mask = torch.zeros_like(self.factors, dtype=torch.bool)
        mask[torch.arange(count), column] = True
        values = torch.zeros_like(self.factors)
        missing = torch.ones(count, dtype=torch.bool)
        now = torch.where(mask, self._predicted(held), 0.0)
        discrete = self.graph.discrete[column]
        for _ in range(_ATTEMPTS):
            donor = torch.randint(count, (count,), generator=self._generator)
            drawn = torch.where(mask, self.factors[donor], 0.0)
            shown = ~discrete | (drawn != now).any(dim=1)
            if self._visible is not None:
                shown &= self._visible(self._predicted(held.then(Intervention(drawn, mask))))
            values = torch.where((missing & shown)[:, None], drawn, values)
            missing &= ~shown
            if not missing.any():
                break
        # An image that no drawn value suits (rare: its own picture is cut off) keeps its own.
        return Intervention(torch.where(missing[:, None], now, values), mask)

    def _predicted(self, held: Intervention) -> Tensor:
        """Factors ``[N, K]`` under what is held: by the true model, or nothing else moved."""
        if self._scm is None:
            return torch.where(held.mask, held.values, self.factors)
        return self._scm(self.factors, held.values, held.mask)
