r"""ACM: how far the factors read off a counterfactual image are from those it should have.

.. math:: \mathrm{ACM} = \frac{1}{K} \sum_k \lvert \hat z_k(x_{cf}) - z_{cf, k} \rvert

in [0, 1] units, over *all* factors: the intervened one, its descendants, and those that must stay.
Between categories there are no distances: there the term is 0 for the right one, 1 for another.
This is our definition. The paper's own is not available to us, beyond that a high ACM means that
the counterfactual does not match the intervention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from diffcf.graph import CausalGraph

__all__ = ["ACM", "absolute_counterfactual_mismatch"]


def absolute_counterfactual_mismatch(
    read: Tensor, target: Tensor, graph: CausalGraph | None = None
) -> Tensor:
    """Per image and factor, ``[B, K]``; its mean over factors is the ACM of each image.

    ``graph`` tells categorical factors; without it all are compared as numbers.

    Raises:
        ValueError: when shapes differ, or an entry is not finite (a reader must always answer).
    """
    if read.shape != target.shape or read.dim() != 2:
        raise ValueError(
            f"ACM compares factors [B, K] with factors [B, K], got {tuple(read.shape)} and "
            f"{tuple(target.shape)}."
        )
    mismatch = (read.float() - target.float()).abs()
    if not torch.isfinite(mismatch).all():
        raise ValueError("ACM met a reading or a target that is NaN or infinite: fix the reader.")
    if graph is None:
        return mismatch
    places = torch.tensor([max(f.width - 1, 1) for f in graph.factors], device=read.device)
    other = (mismatch * places > 0.5).to(mismatch.dtype)
    return torch.where(graph.categorical.to(read.device), other, mismatch)


class ACM(Metric):
    """ACM per intervened factor, per factor read, over roots and leaves, per sequential step.

    Args:
        graph: names the factors, and tells roots from leaves.
        steps: longest sequence of interventions; 1 for single interventions.

    >>> from diffcf.graph import CausalGraph, Factor
    >>> acm = ACM(CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")]))
    >>> acm.update(torch.tensor([[0.5, 0.2]]), torch.tensor([[0.5, 0.4]]), torch.tensor([0]))
    >>> {name: round(float(value), 3) for name, value in acm.compute().items()}
    {'acm': 0.1, 'acm/sun': 0.1, 'acm/sun/sun': 0.0, 'acm/sun/shade': 0.2, 'acm/roots': 0.1}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    error: Tensor
    count: Tensor

    def __init__(self, graph: CausalGraph, steps: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.graph, self.steps = graph, steps
        size = len(graph)
        zeros = torch.zeros(steps, size, size, dtype=torch.float64)
        self.add_state("error", zeros, dist_reduce_fx="sum")  # [step, intervened, read]
        self.add_state("count", zeros[:, :, 0].clone(), dist_reduce_fx="sum")

    def update(self, read: Tensor, target: Tensor, intervened: Tensor, step: int = 0) -> None:
        """Add images.

        Args:
            read: factors read off the counterfactual images, ``[B, K]``.
            target: factors they should have, ``[B, K]``.
            intervened: column of the factor that this step sets, ``[B]``.
            step: position in the sequence, from 0.
        """
        mismatch = absolute_counterfactual_mismatch(read, target, self.graph).to(self.error.dtype)
        self.error[step].index_add_(0, intervened, mismatch)
        ones = torch.ones_like(intervened, dtype=self.count.dtype)
        self.count[step].index_add_(0, intervened, ones)

    def compute(self) -> dict[str, Tensor]:
        """Means by name; interventions that never occurred are left out.

        Raises:
            ValueError: when no image was added.
        """
        if self.count.sum() == 0:
            raise ValueError("ACM has seen no image: update it before computing.")
        error, count = self.error.sum(0), self.count.sum(0)
        seen = [k for k in range(len(self.graph)) if count[k] > 0]
        per_intervention = {k: error[k] / count[k] for k in seen}
        result = {"acm": _mean([per_intervention[k].mean() for k in seen])}
        for k in seen:
            name = self.graph.names[k]
            result[f"acm/{name}"] = per_intervention[k].mean()
            for j, other in enumerate(self.graph.names):
                result[f"acm/{name}/{other}"] = per_intervention[k][j]
        for group, names in (("roots", self.graph.roots), ("leaves", self.graph.leaves)):
            columns = [k for k in seen if self.graph.names[k] in names]
            if columns:
                result[f"acm/{group}"] = _mean([per_intervention[k].mean() for k in columns])
        if self.steps > 1:
            for step in range(self.steps):
                if self.count[step].sum() > 0:
                    mean = self.error[step].sum(0).mean() / self.count[step].sum()
                    result[f"acm/step_{step + 1}"] = mean
        return {name: value.float() for name, value in result.items()}


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
