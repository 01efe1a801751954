"""What a batch says of its labels: which of them are missing, and which factors somebody set.

References:
    Causal inference by using invariant prediction, section 3 (Peters et al., 2016),
    https://arxiv.org/abs/1501.01332; Differentiable causal discovery from interventional data
    (Brouillard et al., 2020), https://arxiv.org/abs/2007.01754: a mechanism is fitted to the rows
    in which nobody set its factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Marks(NamedTuple):
    """Marks of B rows over K factors, both ``[B, K]`` bool.

    Attributes:
        observed: False where a label is missing; factors are NaN there.
        intervened: True where somebody set the factor, so that its value did not come about by its
            mechanism (nor, of a root, by chance).
    """

    observed: Tensor
    intervened: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> Self | None:
        """The marks of a batch, by its keys ``observed`` and ``intervened``; None without both."""
        observed, intervened = batch.get("observed"), batch.get("intervened")
        if observed is None and intervened is None:
            return None
        if observed is None:
            observed = ~batch["factors"].isnan()
        return cls(observed, torch.zeros_like(observed) if intervened is None else intervened)

    def rows(self, rows: Tensor | slice) -> Marks:
        """The marks of some rows."""
        return Marks(self.observed[rows], self.intervened[rows])

    def mechanisms(self, parents: Tensor) -> Tensor:
        """Which mechanisms enter the likelihood, ``[B, K]`` bool.

        Those whose factor nobody set, with the labels of it and of all its ``parents`` (``[K, K]``
        bool, ``[i, j]``: j is one of i) at hand.

        >>> chain = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]]).bool()
        >>> marks = Marks(torch.tensor([[1, 0, 1]]).bool(), torch.tensor([[0, 0, 0]]).bool())
        >>> marks.mechanisms(chain).tolist()
        [[True, False, False]]
        """
        lacking = (~self.observed).float() @ parents.T.float() > 0
        return self.observed & ~lacking & ~self.intervened


def filled(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Factors ``[B, K, ...]`` with 0, a value of every kind, for NaN, and which were not NaN."""
    known = ~factors.isnan()
    return torch.where(known, factors, 0.0), known
