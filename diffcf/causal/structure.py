"""Learning the graph itself: random gates on edges, and what makes a graph acyclic.

References:
    DAGs with NO TEARS (Zheng et al., 2018), https://arxiv.org/abs/1803.01422
    REINFORCE (Williams, 1992), https://doi.org/10.1007/BF00992696
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcf.causal.graph import CausalGraph

# In nats: a factor fitted to its floor gains about 5, and a rare outlier must not outvote a batch.
ADVANTAGE_CLIP = 5.0


def acyclicity(adjacency: Tensor) -> Tensor:
    """NOTEARS' ``h = tr(exp(A∘A)) - K`` of ``[K, K]`` weights: 0 if and only if A is acyclic."""
    walks: Tensor = torch.linalg.matrix_exp(adjacency.square())
    return walks.diagonal().sum() - len(adjacency)


def strongest_dag(strength: Tensor, threshold: float = 0.5, known: Tensor | None = None) -> Tensor:
    """Edges above ``threshold`` from strong to weak, without those that would close a cycle.

    So every cycle loses its weakest edge. ``known`` edges, ``[K, K]`` bool and acyclic, come before
    all others. ``[K, K]`` to ``[K, K]`` bool, ``[i, j]``: j causes i.
    """
    weights = strength.detach().cpu()
    reach = torch.eye(len(weights), dtype=torch.bool)  # [i, j]: j is i or an ancestor of i
    kept = torch.zeros_like(reach)
    if known is not None:
        weights = torch.where(known.cpu(), torch.inf, weights)
    for flat in weights.flatten().argsort(descending=True, stable=True).tolist():
        effect, cause = divmod(flat, len(weights))
        if weights[effect, cause] <= threshold:
            break
        if not reach[cause, effect]:
            kept[effect, cause] = True
            reach |= reach[:, effect, None] & reach[cause]
    return kept.to(strength.device)


def is_acyclic(adjacency: Tensor) -> bool:
    """Whether there is no cycle of edges, ``[K, K]`` bool."""
    return torch.equal(strongest_dag(adjacency.float()), adjacency.bool())


class EdgeGates(nn.Module):
    """A learned distribution over the edges between the factors of ``graph``; independent per edge.

    Known edges are always on, and what :attr:`CausalGraph.free` leaves out is always off: neither
    has a parameter. ``logits`` ``[F]`` has one for each free edge, row by row of the adjacency;
    where all are free it is ``[K, K]``, with an idle diagonal.
    """

    _known: Tensor
    _free: Tensor

    def __init__(self, graph: CausalGraph) -> None:
        super().__init__()
        self.register_buffer("_known", graph.known_adjacency, persistent=False)
        self.register_buffer("_free", graph.free, persistent=False)
        partly = bool(graph.known or graph.forbidden)
        shape = (int(graph.free.sum()),) if partly else (len(graph), len(graph))
        self.logits = nn.Parameter(torch.zeros(shape))

    @property
    def known(self) -> Tensor:
        """``[K, K]`` bool, ``[i, j]``: it is known that j causes i."""
        return self._known

    @property
    def possible(self) -> Tensor:
        """``[K, K]`` bool, ``[i, j]``: j may turn out to cause i."""
        return self._known | self._free

    def probabilities(self) -> Tensor:
        """``[K, K]`` probability that j causes i, 0 on the diagonal."""
        chance = torch.sigmoid(self._spread()) * self._free
        return torch.where(self._known, 1.0, chance)

    @torch.no_grad()
    def choose(self, edges: Tensor) -> None:
        """Make the free ``edges`` ``[K, K]`` (bool) likelier than not, and all others less likely;
        each is as far from even chances as it was, or a little."""
        chosen = edges if self.logits.dim() == 2 else edges[self._free]
        distance = self.logits.abs().clamp_min(1e-3)
        self.logits.copy_(torch.where(chosen, distance, -distance))

    def _spread(self) -> Tensor:
        """``[K, K]`` logits; 0 where there is no parameter."""
        logits = self.logits.float()
        if logits.dim() == 2:
            return logits
        return logits.new_zeros(self._free.shape).masked_scatter(self._free, logits)

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
        logits = self._spread().expand_as(gates)
        taken = -F.binary_cross_entropy_with_logits(logits, gates, reduction="none")
        return (advantage * (taken * self._free).sum(-1)).mean()

    def penalties(self) -> dict[str, Tensor]:
        """Scalars ``acyclicity`` and ``sparsity`` (the expected number of edges)."""
        probabilities = self.probabilities()
        return {"acyclicity": acyclicity(probabilities), "sparsity": probabilities.sum()}
