"""Learning a causal graph from the table of factors alone: an NSCM with free edges, no image."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from diffcf.causal import NSCM, CausalGraph, is_acyclic
from diffcf.io import DataError, SettingsError
from diffcf.methods import check_amount, warm_cosine

WARMUP = 0.05  # share of the steps in which the learning rate rises
RISE = 0.5  # share in which the penalties rise: at once they would end edges yet to be understood
CLIP = 1.0  # norm of a step's gradient
SURE = 3.0  # gains of superfluous edges came to twice the cost
JUDGED = 2048  # rows by which edges are left out or taken in at the end


@dataclass(frozen=True)
class GraphLearning:
    """How the free edges of a graph are learned.

    Attributes:
        steps: of AdamW.
        batch_size: rows of a step.
        learning_rate: of AdamW at its highest; it falls as a cosine to zero.
        acyclicity, sparsity: weights of the penalties (:class:`diffcf.causal.EdgeGates`); an edge
            is there at the end if it gains more than ``sparsity`` nats per row and factor.
        seed: of initial weights, of rows and of drawn graphs.

    Raises:
        SettingsError: for a number out of range.
    """

    steps: int = 1200
    batch_size: int = 256
    learning_rate: float = 3e-3
    acyclicity: float = 2.0
    sparsity: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("learning_rate", "acyclicity", "sparsity"):
            check_amount(name, getattr(self, name))


def learn_graph(
    graph: CausalGraph, factors: Tensor, learning: GraphLearning = GraphLearning()
) -> NSCM:
    """An NSCM, in evaluation mode, that has learned which of the free edges there are.

    Args:
        graph: its known edges stay, its forbidden ones stay away; other edges are ignored.
        factors: of all training rows, ``[N, K]`` in [0, 1] units; rows with a NaN are left out.
        learning: steps, rates and weights.

    Raises:
        DataError: where no row is whole.
    """
    rows = factors[factors.isfinite().all(dim=1)].float()
    if not len(rows):
        raise DataError("No training row has a value of every factor: a graph needs some.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(learning.seed)
        nscm = NSCM(graph, learned_graph=True)
        optimizer = torch.optim.AdamW(nscm.parameters(), learning.learning_rate, fused=True)
        for step in range(learning.steps):
            rate = learning.learning_rate * warm_cosine((step + 1) / learning.steps, WARMUP)
            optimizer.param_groups[0]["lr"] = rate
            terms = nscm.loss(rows[torch.randint(len(rows), (learning.batch_size,))])
            penalty = learning.acyclicity * terms["acyclicity"]
            penalty = penalty + learning.sparsity * terms["sparsity"]
            share = min(1.0, step / (RISE * learning.steps))
            optimizer.zero_grad()
            (terms["nscm"] + share * penalty).backward()
            torch.nn.utils.clip_grad_norm_(nscm.parameters(), CLIP)
            optimizer.step()
        nscm.eval()
        _settle(nscm, rows[torch.randint(len(rows), (JUDGED,))], learning.sparsity)
    return nscm


@torch.no_grad()
def _settle(nscm: NSCM, rows: Tensor, sparsity: float) -> None:
    """Leave out learned edges that explain less than they cost, and take in those that do far more.

    One at a time, the best first, as in greedy searches of graphs (Chickering, 2002, Optimal
    structure identification with greedy search, https://www.jmlr.org/papers/v3/chickering02b.html).
    A gate near 0 or 1 has hardly a gradient left: an edge that helped while the graph had cycles
    stays when its help is gone, and one that needs another beside it stays away. The mechanisms
    know the factor with and without it, from drawn graphs. What training left out has to explain
    SURE times its cost: mechanisms that fit imperfectly gain a little by any input.

    Args:
        nscm: in evaluation mode, with a learned graph.
        rows: to judge by, ``[N, K]`` in [0, 1] units.
        sparsity: cost of an edge, in nats per row and factor.
    """
    gates = nscm.gates
    if gates is None:
        return

    def score(adjacency: Tensor) -> float:
        return float(_likelihood(nscm, rows, adjacency) - sparsity * adjacency.sum())

    present = nscm.adjacency
    best, free = score(present), gates.possible & ~gates.known
    while True:
        others = []
        for effect, cause in free.nonzero().tolist():
            other = present.clone()
            other[effect, cause] ^= True
            if is_acyclic(other):
                asked = (SURE - 1) * sparsity if other[effect, cause] else 0.0
                others.append((score(other) - best - asked, other))
        if not others or max(others, key=itemgetter(0))[0] <= 0:
            break
        _, present = max(others, key=itemgetter(0))
        best = score(present)
    gates.choose(present)


def _likelihood(nscm: NSCM, rows: Tensor, adjacency: Tensor) -> Tensor:
    """Mean log likelihood per row and factor under a graph, a scalar."""
    return nscm.equations.log_prob(rows, nscm.equations.inputs(rows, adjacency)).mean()
