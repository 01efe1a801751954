r"""Reversibility: what was done can be undone.

.. math:: \mathrm{reversibility} = \operatorname{mean}_{c,h,w}
    \tfrac{1}{2} \lvert f(f(x; \mathrm{do}); \mathrm{undo}) - x \rvert

where undo sets the factor back to its factual value, upon the counterfactual image alone. One of
the three axioms of counterfactuals that Monteiro et al. turn into distances: Measuring axiomatic
soundness of counterfactual image models, ICLR 2023, https://arxiv.org/abs/2303.01274, there with
any distance between images; here it is the mean absolute difference as a share of the pixel range.

The functional form is :func:`~diffcf.metrics.fidelity.mean_absolute_error` of the image and the
factual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcf.graph import CausalGraph
from diffcf.metrics.fidelity import mean_absolute_error
from diffcf.metrics.image_metric import ImageMetric, factor_means

__all__ = ["Reversibility"]


class Reversibility(ImageMetric):
    """Distance (0 … 1, low is good) from the factual after do and undo, by intervened factor.

    A method that never changes a picture is perfect here: read it beside effectiveness.

    Args:
        graph: names the factors, and tells roots from leaves.

    >>> import torch
    >>> from diffcf.graph import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")])
    >>> reversibility, factual = Reversibility(graph), torch.zeros(2, 3, 8, 8)
    >>> reversibility.update(factual + 0.2, factual, column=0)
    >>> {name: round(float(value), 3) for name, value in reversibility.compute().items()}
    {'reversibility': 0.1, 'reversibility/sun': 0.1, 'reversibility/roots': 0.1}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(len(graph), 1, **kwargs)
        self.graph = graph

    def update(
        self, image: Tensor, factual: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add images in which factor ``column`` was set, and set back.

        Args:
            image: what they became, ``[B, C, H, W]`` in [-1, 1].
            factual: what they were, likewise.
            column: of the factor that was set.
            index: which image of the set each row is, ``[B]``; None if every row is another.

        Raises:
            ValueError: for shapes that do not fit, and for NaN.
        """
        self._add(mean_absolute_error(image, factual)[:, None], column, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``reversibility`` by factor, over roots, over leaves and over all."""
        graph = self.graph
        groups: dict[str, Sequence[str]] = {"roots": graph.roots, "leaves": graph.leaves}
        return factor_means("reversibility", means[..., 0], seen, graph.names, groups)
