"""Learning a causal graph from the table of factors alone: an NSCM with free edges, no image."""

from __future__ import annotations

from dataclasses import dataclass

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
            that gains less than ``sparsity`` nats per row and factor is left out at the end, one
            that gains three times as much taken in.
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

    present, free = nscm.adjacency, gates.possible & ~gates.known
    while (better := _better(nscm, rows, present, free, sparsity)) is not None:
        present = better
    gates.choose(present)


def _better(
    nscm: NSCM, rows: Tensor, present: Tensor, free: Tensor, sparsity: float
) -> Tensor | None:
    """The acyclic graph with the one edge more or less that is worth most; None if none is."""
    likely = _likelihood(nscm, rows, present)
    worth = torch.full(present.shape, -torch.inf)
    for cause in range(len(present)):  # the mechanism of each effect knows its own causes alone
        flipped = present.clone()
        flipped[:, cause] ^= free[:, cause]
        gains = (_likelihood(nscm, rows, flipped) - likely) / len(present)
        asked = torch.where(present[:, cause], sparsity, -SURE * sparsity)
        worth[:, cause] = torch.where(free[:, cause], gains + asked, -torch.inf)
    for flat in worth.flatten().argsort(descending=True).tolist():
        effect, cause = divmod(flat, len(present))
        if worth[effect, cause] <= 0:
            break
        other = present.clone()
        other[effect, cause] ^= True
        if is_acyclic(other):
            return other
    return None


def _likelihood(nscm: NSCM, rows: Tensor, adjacency: Tensor) -> Tensor:
    """Mean log likelihood per row of each factor under a graph, ``[K]``."""
    return nscm.equations.log_prob(rows, nscm.equations.inputs(rows, adjacency)).mean(dim=0)
