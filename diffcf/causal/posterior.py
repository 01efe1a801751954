"""TODO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class FactorPosterior:
    """What the projector says: per factor, and per factor and place.

    Means and variances are those of the factors' *code* (:meth:`CausalGraph.encode`), E columns: a
    value in [0, 1] units, the probability of a binary factor, the probabilities of all categories.

    Attributes:
        mean: ``[B, E]``; :meth:`CausalGraph.decode` makes factors of it.
        variance: ``[B, E]``, of the mixture of places, so that disagreement counts.
        attention: ``[B, K, h, w]``, sums to 1 over places.
        local_mean, local_variance: ``[B, E, h, w]``.
    """

    mean: Tensor
    variance: Tensor
    attention: Tensor
    local_mean: Tensor
    local_variance: Tensor


class Reading(NamedTuple):
    """Mean and variance ``[B, E]`` of the factors' code."""

    mean: Tensor
    variance: Tensor
