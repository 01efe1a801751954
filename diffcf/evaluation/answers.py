"""What is asked of a method, and what it answers: one batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from torch import Tensor

from diffcf.causal import Intervention
from diffcf.methods import Counterfactual


@dataclass(frozen=True)
class FactualBatch:
    """Images ``[B, C, H, W]``, their factors ``[B, K]`` and their rows in the set, ``[B]``."""

    image: Tensor
    factors: Tensor
    index: Tensor

    def where(self, chosen: Tensor) -> FactualBatch:
        """The images that ``chosen`` ``[B]`` (bool) marks."""
        return FactualBatch(self.image[chosen], self.factors[chosen], self.index[chosen.cpu()])

    def rows(self, intervention: Intervention) -> Intervention:
        """These images' part of an intervention on the whole set."""
        values, mask = intervention.values[self.index], intervention.mask[self.index]
        return Intervention(values.to(self.factors), mask.to(self.factors.device))


@dataclass
class Answered:
    """The answers to a batch, to measure further and to look at.

    Attributes:
        batch: the factual images.
        single: per intervened factor, the counterfactual.
        exact: per intervened factor, the exact counterfactual images; empty where unknown.
        sequence: the counterfactual of each step, for the first images of the set in the batch.
        sequence_do: what each step set.
        sequence_exact: the exact images of each step; empty where unknown.
    """

    batch: FactualBatch
    single: dict[str, Counterfactual] = field(default_factory=dict)
    exact: dict[str, Tensor] = field(default_factory=dict)
    sequence: list[Counterfactual] = field(default_factory=list)
    sequence_do: list[Intervention] = field(default_factory=list)
    sequence_exact: list[Tensor] = field(default_factory=list)


class Strength(NamedTuple):
    """λ_t over the images of a batch, at one time of their paths."""

    t: float
    median: float
    low: float
    """The 10% quantile."""
    high: float
    """The 90% quantile."""

    @classmethod
    def of(cls, t: float, strength: Tensor) -> Self:
        """Of λ_t ``[B]`` at time ``t``."""
        middle, low, high = (float(strength.float().quantile(q)) for q in (0.5, 0.1, 0.9))
        return cls(t, middle, low, high)
