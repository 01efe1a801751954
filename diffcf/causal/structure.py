"""Learning the graph itself: random gates on edges, and what makes a graph acyclic.

References:
    DAGs with NO TEARS (Zheng et al., 2018), https://arxiv.org/abs/1803.01422
    REINFORCE (Williams, 1992), https://doi.org/10.1007/BF00992696
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# In nats: a factor fitted to its floor gains about 5, and a rare outlier must not outvote a batch.
ADVANTAGE_CLIP = 5.0


def acyclicity(adjacency: Tensor) -> Tensor:
    """NOTEARS' ``h = tr(exp(A∘A)) - K`` of ``[K, K]`` weights: 0 if and only if A is acyclic."""
    walks: Tensor = torch.linalg.matrix_exp(adjacency.square())
    return walks.diagonal().sum() - len(adjacency)


def strongest_dag(strength: Tensor, threshold: float = 0.5) -> Tensor:
    """Edges above ``threshold`` from strong to weak, without those that would close a cycle.

    So every cycle loses its weakest edge. ``[K, K]`` to ``[K, K]`` bool, ``[i, j]``: j causes i.
    """
    weights = strength.detach().cpu()
    reach = torch.eye(len(weights), dtype=torch.bool)  # [i, j]: j is i or an ancestor of i
    kept = torch.zeros_like(reach)
    for flat in weights.flatten().argsort(descending=True, stable=True).tolist():
        effect, cause = divmod(flat, len(weights))
        if weights[effect, cause] <= threshold:
            break
        if not reach[cause, effect]:
            kept[effect, cause] = True
            reach |= reach[:, effect, None] & reach[cause]
    return kept.to(strength.device)


class EdgeGates(nn.Module):
    """A learned distribution over the edges between ``size`` factors; independent per edge."""

    _off_diagonal: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size, size))
        self.register_buffer("_off_diagonal", 1 - torch.eye(size), persistent=False)

    def probabilities(self) -> Tensor:
        """``[K, K]`` probability that j causes i, 0 on the diagonal."""
        return torch.sigmoid(self.logits.float()) * self._off_diagonal

    def sample(self, batch: int) -> Tensor:
        """``[B, K, K]`` independent draws of 0/1 gates; no gradient."""
        return torch.bernoulli(self.probabilities().detach().expand(batch, -1, -1))

    def score(self, gates: Tensor, log_prob: Tensor, counted: Tensor | None = None) -> Tensor:
        """Scalar whose gradient raises the edges under which factors are likelier (REINFORCE).

        ``log_prob`` ``[B, K]`` is of each factor under its sample's ``gates`` ``[B, K, K]``. Row i
        of the gates affects factor i alone, and the batch mean is the baseline: so the estimate
        has little variance; straight-through gradients found hardly an edge. Where ``counted``
        ``[B, K]`` (bool) is given, only these take part.
        """
        if counted is None:
            baseline = log_prob.mean(0)
        else:
            total = torch.where(counted, log_prob, 0.0).sum(0)
            baseline = total / counted.sum(0).clamp_min(1)
        advantage = (log_prob - baseline).detach().clamp(-ADVANTAGE_CLIP, ADVANTAGE_CLIP)
        if counted is not None:
            advantage = torch.where(counted, advantage, 0.0)
        logits = self.logits.float().expand_as(gates)
        taken = -F.binary_cross_entropy_with_logits(logits, gates, reduction="none")
        return (advantage * (taken * self._off_diagonal).sum(-1)).mean()

    def penalties(self) -> dict[str, Tensor]:
        """Scalars ``acyclicity`` and ``sparsity`` (the expected number of edges)."""
        probabilities = self.probabilities()
        return {"acyclicity": acyclicity(probabilities), "sparsity": probabilities.sum()}
