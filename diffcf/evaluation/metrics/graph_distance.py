r"""How far a graph is from the true one: structural Hamming distance, and F1 of directed edges.

.. math:: \mathrm{SHD} = \text{missing} + \text{extra} + \text{reversed}, \qquad
          F_1 = \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FP} + \mathrm{FN}}

A reversed edge counts one in SHD, and in F1 as one edge too many and one missed. Graphs are
``[K, K]`` bool as :attr:`CausalGraph.adjacency` is: entry ``[i, j]`` says that factor j is a parent
of factor i. All others, and those of different sizes or with self-loops, raise ValueError.

Reference:
    Tsamardinos, Brown & Aliferis, The max-min hill-climbing Bayesian network structure learning
    algorithm, Machine Learning 65, 2006.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from diffcf.causal import NSCM


def structural_hamming_distance(adjacency: Tensor, true: Tensor) -> int:
    """Edges to add, remove or turn round until ``adjacency`` ``[K, K]`` is ``true`` ``[K, K]``."""
    adjacency, true = _checked(adjacency, true)
    extra, missing = adjacency & ~true, true & ~adjacency
    turned = extra & missing.T
    return int(extra.sum() + missing.sum() - turned.sum())


def edge_f1(adjacency: Tensor, true: Tensor) -> float:
    """F1, in [0, 1], of the directed edges of ``adjacency`` ``[K, K]`` against ``true`` ``[K, K]``.

    1 when neither graph has an edge, 0 when only one of them has any.
    """
    adjacency, true = _checked(adjacency, true)
    edges = int(adjacency.sum() + true.sum())
    return 2 * int((adjacency & true).sum()) / edges if edges else 1.0


def learned_adjacency(nscm: NSCM | None) -> Tensor | None:
    """The graph ``[K, K]`` that ``nscm`` learned; None where it was given one, or is none."""
    if nscm is None or getattr(nscm, "gates", None) is None:
        return None
    return nscm.adjacency


class GraphMetric(MeanMetric):
    """Mean over graphs of a number that :meth:`update` takes of each."""

    def compute(self) -> Tensor:
        """The mean over graphs, a scalar; ValueError when no graph was added."""
        if self.weight == 0:
            raise ValueError(
                f"{type(self).__name__} has seen no graph: update it before computing."
            )
        return super().compute()


class StructuralHammingDistance(GraphMetric):
    """Mean :func:`structural_hamming_distance` over graphs, in edges.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> sun, shade = Factor("sun"), Factor("shade")
    >>> true = CausalGraph([sun, shade], [("sun", "shade")]).adjacency
    >>> distance = StructuralHammingDistance()
    >>> distance.update(CausalGraph([sun, shade], [("shade", "sun")]).adjacency, true)
    >>> distance.update(true, true)
    >>> distance.compute().item()
    0.5
    """

    higher_is_better = False  # type: ignore[assignment]

    def update(self, adjacency: Tensor, true: Tensor) -> None:  # type: ignore[override]
        """Add one graph ``[K, K]`` and the true one, ``[K, K]``, both bool."""
        super().update(structural_hamming_distance(adjacency, true))


class EdgeF1(GraphMetric):
    """Mean :func:`edge_f1` over graphs, in [0, 1].

    >>> from diffcf.causal import CausalGraph, Factor
    >>> sun, moon, shade = Factor("sun"), Factor("moon"), Factor("shade")
    >>> true = CausalGraph([sun, moon, shade], [("sun", "shade"), ("moon", "shade")]).adjacency
    >>> f1 = EdgeF1()
    >>> f1.update(CausalGraph([sun, moon, shade], [("sun", "shade")]).adjacency, true)
    >>> round(f1.compute().item(), 3)
    0.667
    """

    higher_is_better = True  # type: ignore[assignment]

    def update(self, adjacency: Tensor, true: Tensor) -> None:  # type: ignore[override]
        """Add one graph ``[K, K]`` and the true one, ``[K, K]``, both bool."""
        super().update(edge_f1(adjacency, true))


def _checked(adjacency: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    shapes = f"{list(adjacency.shape)} and {list(true.shape)}"
    if adjacency.dim() != 2 or adjacency.shape != true.shape or len(true) != true.shape[1]:
        raise ValueError(f"Graphs are compared as square matrices of one size, got {shapes}.")
    for matrix in (adjacency, true):
        if matrix.dtype != torch.bool:
            raise ValueError(
                f"Graphs are compared as bool matrices, got {matrix.dtype}: threshold strengths "
                "of edges first, as diffcf.causal.structure.strongest_dag does."
            )
        if matrix.diagonal().any():
            raise ValueError("No factor causes itself: clear the diagonal of the graph's matrix.")
    return adjacency.cpu(), true.cpu()
