r"""Backtracking counterfactuals: which causes would have led to a value?

``do(length = 0.8)`` cuts the shadow off its causes. A backtracking counterfactual leaves every
mechanism as it is and moves the exogenous noise instead: the angle or the light was another, so
that the shadow came out as long. Of all noise that leads there it is the one closest to the
abducted noise u,

.. math:: u^* = \arg\min_{u'} \lVert u' - u \rVert^2 \quad\text{such that}\quad f_k(u') = v_k,

which is the mode of a backtracking conditional :math:`u' \sim N(u, \sigma^2)` (von Kügelgen,
Mohamed & Beckers, 2022, https://arxiv.org/abs/2211.00472, who leave its choice open; this one is
ours). It is found by gradient descent from several starts, with a penalty on missing the value that
grows on the way.
Noise of discrete factors stays as it was abducted, so these move with their causes only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention
from diffcf.causal.nscm import NSCM
from diffcf.io import InterventionError

STEPS = 150
STARTS = 6  # at u, two near u and three anywhere: where an effect stands still, no slope leads away
RATE = 0.05  # of Adam, in standard deviations of the noise; it falls to a tenth
PENALTY = 10.0, 1e5  # first and last weight of the squared distance from the values wanted
MOVED = 2e-3  # of a factor's range, below which it is taken for unmoved
REACHED = 5e-3  # of a factor's range, off the value that was asked


@dataclass(frozen=True)
class Backtracked:
    """What would have led to the values asked, image by image.

    Attributes:
        do: the factors that moved, set to their new values: what to answer in the picture.
        exogenous: the noise that leads there, ``[B, E]``.
        distance: :math:`\\lVert u^* - u \\rVert`, ``[B]``, in standard deviations: how far-fetched
            it is.
        reached: ``[B]`` bool, whether the values come out; where no causes within a few deviations
            lead there, the nearest that was found stands.
    """

    do: Intervention
    exogenous: Tensor
    distance: Tensor
    reached: Tensor


def backtrack(
    nscm: NSCM, factors: Tensor, exogenous: Tensor, do: Intervention, steps: int = STEPS
) -> Backtracked:
    """Move the noise ``[B, E]`` of factors ``[B, K]`` until the values of ``do`` come out.

    Args:
        nscm: the causal model.
        factors, exogenous: the factual ones, and their abducted noise.
        do: the values wanted.
        steps: of the search.

    Raises:
        InterventionError: where a discrete factor is to come out: its noise is a draw.
    """
    _check(nscm.graph, do)
    free = _free(nscm, do.mask)
    anchor, batch = exogenous.detach(), len(factors)
    # The same for every image, so that none's answer depends on its batch.
    drawn = torch.randn(STARTS, anchor.shape[1], generator=Generator().manual_seed(0)).to(anchor)
    near = torch.arange(STARTS, device=anchor.device) < STARTS // 2
    drawn[0] = 0.0
    elsewhere = torch.where(near[:, None, None], anchor + drawn[:, None], drawn[:, None])
    tried = torch.where(free, elsewhere, anchor).flatten(0, 1)
    asked = Intervention(do.values.repeat(STARTS, 1), do.mask.repeat(STARTS, 1))
    noise = _nearest(nscm, tried, anchor.repeat(STARTS, 1), asked, free.repeat(STARTS, 1), steps)
    with torch.no_grad():
        found = nscm.decode(noise).to(factors).view(STARTS, batch, -1)
    noise = noise.view(STARTS, batch, -1)
    off = torch.where(do.mask, (found - do.values).abs(), 0.0).amax(dim=2)
    distance = (noise - anchor).norm(dim=2)
    # The nearest of those that arrive, or else the one that comes closest to the values.
    cost = torch.where(off > REACHED, 1e3 * (1 + off), distance)
    best = cost.argmin(dim=0), torch.arange(batch, device=factors.device)
    reached = off[best] <= REACHED
    made = _moved(nscm.graph, factors, found[best], do, reached)
    return Backtracked(made, noise[best], distance[best], reached)


def _free(nscm: NSCM, mask: Tensor) -> Tensor:
    """The noise that may move, ``[B, E]``: of numbers in ``mask``, and of their causes."""
    causes, adjacency = mask, nscm.adjacency.to(mask.device).float()
    for _ in nscm.graph.names:
        causes = causes | (causes.float() @ adjacency > 0)
    return (causes & ~nscm.graph.discrete.to(mask.device))[:, nscm.graph.code_owner]


def _moved(
    graph: CausalGraph, factors: Tensor, found: Tensor, do: Intervention, reached: Tensor
) -> Intervention:
    """What differs between factors and those that were found, set; to what was asked exactly."""
    mask = do.mask | ((found - factors).abs() > MOVED)
    values = torch.where(do.mask & reached[:, None], do.values, found).clamp(0, 1)
    return Intervention(torch.where(mask, graph.snap(values), 0.0), mask, do.clipped)


def _check(graph: CausalGraph, do: Intervention) -> None:
    discrete = graph.discrete.to(do.mask.device)
    for column in (do.mask & discrete).any(dim=0).nonzero()[:, 0].tolist():
        raise InterventionError(
            f"{graph.names[column]} is {graph.factors[column].kind}, and its noise is drawn, not "
            "determined: backtrack from a number, or set it without backtracking."
        )


def _nearest(
    nscm: NSCM, tried: Tensor, anchor: Tensor, do: Intervention, free: Tensor, steps: int
) -> Tensor:
    """From ``tried`` ``[B, E]``, noise near ``anchor`` that leads to the values of ``do``."""
    first, last = PENALTY
    with torch.enable_grad():
        noise = tried.clone().requires_grad_()
        optimizer = torch.optim.Adam([noise], RATE)
        for step in range(steps):
            progress = step / steps
            penalty = first * (last / first) ** progress
            optimizer.param_groups[0]["lr"] = RATE * (1 - 0.9 * progress)
            found = nscm.decode(noise)
            off = torch.where(do.mask, do.values - found, 0.0)
            beyond = found - found.clamp(0, 1)  # causes that no image could show
            missed = off.square().sum() + beyond.square().sum()
            # A sum, so that no image's search knows of another's.
            loss = (noise - anchor).square().sum() + penalty * missed
            (slope,) = torch.autograd.grad(loss, noise)
            noise.grad = torch.where(free, slope, 0.0)
            optimizer.step()
    return noise.detach()
