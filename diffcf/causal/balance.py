"""Weights that let rare levels of discrete factors count as much as frequent ones."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal.graph import CausalGraph
from diffcf.causal.marks import filled
from diffcf.io import SettingsError


class LevelBalance:
    """The weight of each value of each discrete factor; continuous factors have weight 1.

    A level that has the share p of a factor's L levels weighs :math:`(p L)^{-s}`, scaled so that
    the mean over all images is 1: with s = 1 all levels that occur count alike.

    Args:
        graph: the factors with their kinds.
        factors: of all images that weights are for, ``[N, K]`` in [0, 1], on the device on which
            weights will be asked for; NaN where a label is missing, which then counts for nothing.
        strength: s in [0, 1]; 0 weighs all images alike.

    Raises:
        SettingsError: for a strength outside its range.

    >>> from diffcf.causal import Factor
    >>> balance = LevelBalance(
    ...     CausalGraph([Factor("bald", "binary")]), torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    ... )
    >>> [round(float(w), 2) for w in balance(torch.tensor([[0.0], [1.0]]))[:, 0]]
    [0.67, 2.0]
    """

    def __init__(self, graph: CausalGraph, factors: Tensor, strength: float = 1.0) -> None:
        strength = check_strength(strength)
        levels = [1 if factor.continuous else max(2, factor.width) for factor in graph.factors]
        table = torch.ones(len(graph), max(levels))
        for column, count in enumerate(levels):
            if count == 1:
                continue
            known = factors[:, column]
            known = known[~known.isnan()]
            place = (known * (count - 1)).round().long()
            share = torch.bincount(place, minlength=count).float().cpu() / len(known)
            weight = torch.where(share > 0, (share * count).clamp_min(1e-9) ** -strength, 0.0)
            table[column, :count] = weight / (share * weight).sum()
        self._table = table.to(factors.device)
        self._last = (torch.tensor(levels) - 1).to(factors.device)

    def __call__(self, factors: Tensor) -> Tensor:
        """Weights ``[B, K, ...]`` of factors ``[B, K, ...]`` in [0, 1]."""
        shape = (-1,) + (1,) * (factors.dim() - 2)
        place = (factors * self._last.view(shape)).round().long()
        column = torch.arange(len(self._last), device=factors.device).view(shape)
        return self._table[column, place]


def weighted_labels(
    labels: Tensor, balance: LevelBalance | None, partial: bool
) -> tuple[Tensor, Tensor | None]:
    """Labels ``[B, K, ...]`` in [0, 1], and their weights, or None where all weigh 1.

    If they are ``partial``, NaN is a missing label: some value takes its place, of weight 0.

    >>> labels, weight = weighted_labels(torch.tensor([[0.25, torch.nan]]), None, True)
    >>> labels.tolist(), weight.tolist()
    ([[0.25, 0.0]], [[1.0, 0.0]])
    """
    if not partial:
        return labels, None if balance is None else balance(labels)
    labels, known = filled(labels)
    return labels, known.to(labels) if balance is None else known * balance(labels)


def check_strength(balance: float) -> float:
    """``balance`` itself; SettingsError unless it lies in [0, 1]."""
    if not 0 <= balance <= 1:
        raise SettingsError(f"balance must lie in [0, 1], not {balance}.")
    return balance
