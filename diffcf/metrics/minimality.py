r"""Minimality: nothing changes but what must.

.. math:: \mathrm{minimality} = \operatorname{mean}_{c,h,w}
    \tfrac{1}{2} \max\left(0, \lvert x_{cf} - x \rvert - \lvert x^* - x \rvert\right)

with the factual image x, the counterfactual x_cf, and the exact counterfactual x*, which only a
synthetic scene can draw: the change beyond what the exact counterfactual changes, as a share of the
pixel range. This is our definition.

It is 0 for the exact counterfactual and for doing nothing, and large for a method that repaints the
picture. It does not see what happens within the change that must be: a wrong colour there, a change
too small, or one the wrong way are the business of PSNR (:mod:`diffcf.metrics.fidelity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcf.graph import CausalGraph
from diffcf.metrics.fidelity import PIXEL_RANGE, check_images
from diffcf.metrics.image_metric import ImageMetric, factor_means

__all__ = ["Minimality", "excess_change"]


def excess_change(image: Tensor, factual: Tensor, exact: Tensor) -> Tensor:
    """Change beyond that of ``exact``, ``[B]``, in 0 … 1, a share of the pixel range.

    Raises:
        ValueError: unless all are images ``[B, C, H, W]`` of one shape.
    """
    check_images(image, factual, exact)
    factual = factual.float()
    excess = (image.float() - factual).abs() - (exact.float() - factual).abs()
    return excess.clamp(min=0).flatten(1).mean(dim=1) / PIXEL_RANGE


class Minimality(ImageMetric):
    """Excess change (0 … 1, low is good) by intervened factor, over roots and leaves.

    Args:
        graph: names the factors, and tells roots from leaves.

    >>> import torch
    >>> from diffcf.graph import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")])
    >>> minimality, factual = Minimality(graph), torch.zeros(2, 3, 8, 8)
    >>> exact = factual.clone()
    >>> exact[..., :4] = 0.6
    >>> minimality.update(factual + 0.2, factual, exact, column=0)
    >>> {name: round(float(value), 3) for name, value in minimality.compute().items()}
    {'minimality': 0.05, 'minimality/sun': 0.05, 'minimality/roots': 0.05}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(len(graph), 1, **kwargs)
        self.graph = graph

    def update(
        self,
        image: Tensor,
        factual: Tensor,
        exact: Tensor,
        column: int,
        index: Tensor | None = None,
    ) -> None:
        """Add images in which factor ``column`` was set.

        Args:
            image: counterfactual images, ``[B, C, H, W]`` in [-1, 1].
            factual: what they were made from, likewise.
            exact: the exact counterfactuals, likewise.
            column: of the factor that was set.
            index: which image of the set each row is, ``[B]``; None if every row is another.

        Raises:
            ValueError: for shapes that do not fit, and for NaN.
        """
        self._add(excess_change(image, factual, exact)[:, None], column, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``minimality`` by factor, over roots, over leaves and over all."""
        graph = self.graph
        groups: dict[str, Sequence[str]] = {"roots": graph.roots, "leaves": graph.leaves}
        return factor_means("minimality", means[..., 0], seen, graph.names, groups)
