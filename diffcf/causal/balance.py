"""Weights that let rare levels of discrete factors, or combinations, count as much as others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from diffcf.causal.graph import CausalGraph
from diffcf.causal.marks import filled
from diffcf.io import SettingsError

Balance = Callable[[Tensor], Tensor]
"""Weights ``[B, K, ...]`` of factors ``[B, K, ...]`` in [0, 1]."""
BalanceOf = Literal["levels", "combinations"]


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
        levels = _level_counts(graph)
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
        place = (factors.nan_to_num() * self._last.view(shape)).round().long()
        column = torch.arange(len(self._last), device=factors.device).view(shape)
        return self._table[column, place]


class CombinationBalance:
    """The weight of each combination of values of all discrete factors.

    Levels that weigh alike may still go together: of faces that do not smile few have an open
    mouth, and a network takes the one for the other. A combination that has the share p of all
    images weighs :math:`p^{-s}`, scaled so that the mean over all images is 1. A combination that
    no image has weighs as much as the rarest.

    Args:
        graph, factors: as of :class:`LevelBalance`; a missing label counts as a level of its own.
        strength: s in [0, 1]. At 1 a combination of a few images weighs as much as one of
            thousands, and is learned by heart.

    Raises:
        SettingsError: for a strength outside its range.

    >>> from diffcf.causal import Factor
    >>> graph = CausalGraph([Factor("smile", "binary"), Factor("open", "binary")])
    >>> factors = torch.tensor([[0.0, 0.0]] * 4 + [[1.0, 1.0]] * 4 + [[0.0, 1.0]])
    >>> balance = CombinationBalance(graph, factors, 0.5)
    >>> [round(float(w), 2) for w in balance(factors)[[0, 4, 8], 0]]
    [0.9, 0.9, 1.8]
    """

    def __init__(self, graph: CausalGraph, factors: Tensor, strength: float = 0.5) -> None:
        strength = check_strength(strength)
        self._last = (torch.tensor(_level_counts(graph)) - 1).to(factors.device)
        self._known, count = torch.unique(self._keys(factors), dim=0, return_counts=True)
        share = count / len(factors)
        weight = share**-strength
        self._weight = (weight / (share * weight).sum()).float()

    def __call__(self, factors: Tensor) -> Tensor:
        """Weights ``[B, K, ...]`` of factors ``[B, K, ...]`` in [0, 1], the same for all K."""
        rows = factors.movedim(1, -1)
        keys = self._keys(rows.flatten(0, -2))
        same = (keys[:, None] == self._known[None]).all(dim=-1)
        found = self._weight[same.int().argmax(dim=1)]
        weight = torch.where(same.any(dim=1), found, self._weight.max())
        return weight.view(rows.shape[:-1]).unsqueeze(1).expand_as(factors)

    def _keys(self, factors: Tensor) -> Tensor:
        """``[N, K]`` whole numbers, the place of each value; -1 for a missing label."""
        place = (factors.nan_to_num() * self._last).round().long()
        return torch.where(factors.isnan() & (self._last > 0), -1, place)


def _level_counts(graph: CausalGraph) -> list[int]:
    """How many levels weigh apart, by factor; 1 for a continuous one."""
    return [1 if factor.continuous else max(2, factor.width) for factor in graph.factors]


def label_weights(
    graph: CausalGraph, factors: Tensor, strength: float, of: BalanceOf = "levels"
) -> Balance:
    """The balance of ``levels`` or ``combinations``; SettingsError for anything else.

    The other arguments are those of the classes.
    """
    if of not in ("levels", "combinations"):
        raise SettingsError(f"balance_of is levels or combinations, not {of!r:.100}.")
    if of == "combinations":
        return CombinationBalance(graph, factors, strength)
    return LevelBalance(graph, factors, strength)


def training_factors(data: Any) -> Tensor:
    """Factors ``[N, K]`` of all training images of a data module, by which a balance weighs.

    Raises:
        SettingsError: where there is no data module, or it does not know them.
    """
    if not hasattr(data, "factors_of"):
        raise SettingsError(
            "balance weighs by the factors of all training images: give the Trainer a data "
            "module with factors_of, or set balance 0."
        )
    factors: Tensor = data.factors_of("train")
    return factors


def weighted_labels(
    labels: Tensor, balance: Balance | None, partial: bool
) -> tuple[Tensor, Tensor | None]:
    """Labels ``[B, K, ...]`` in [0, 1], and their weights, or None where all weigh 1.

    If they are ``partial``, NaN is a missing label: some value takes its place, of weight 0.

    >>> labels, weight = weighted_labels(torch.tensor([[0.25, torch.nan]]), None, True)
    >>> labels.tolist(), weight.tolist()
    ([[0.25, 0.0]], [[1.0, 0.0]])
    """
    weight = None if balance is None else balance(labels)
    if not partial:
        return labels, weight
    labels, known = filled(labels)
    return labels, known.to(labels) if weight is None else known * weight


def check_strength(balance: float) -> float:
    """``balance`` itself; SettingsError unless it lies in [0, 1]."""
    if not 0 <= balance <= 1:
        raise SettingsError(f"balance must lie in [0, 1], not {balance}.")
    return balance
