"""Factors as people write them: native numbers, and categories by name."""

from __future__ import annotations

from torch import Tensor

from diffcf.graph import CausalGraph

__all__ = ["written"]


def written(graph: CausalGraph, factors: Tensor) -> list[list[float | str]]:
    """Rows of ``factors`` ``[B, K]``, in [0, 1] units, in the graph's own.

    >>> import torch
    >>> from diffcf.graph import Factor
    >>> shape = Factor("shape", "categorical", categories=("cube", "ball"))
    >>> graph = CausalGraph([Factor("size", low=0.0, high=10.0), shape])
    >>> written(graph, torch.tensor([[0.5, 1.0]]))
    [[5.0, 'ball']]
    """
    rows: list[list[float | str]] = []
    for scaled, native in zip(factors.tolist(), graph.to_native(factors).tolist(), strict=True):
        pairs = zip(graph.factors, scaled, native, strict=True)
        rows.append([f.text(place) if f.categories else value for f, place, value in pairs])
    return rows
