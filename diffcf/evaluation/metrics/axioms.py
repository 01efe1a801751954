r"""Composition: changing nothing must change nothing.

.. math:: \mathrm{composition}(n) = \operatorname{mean}_{c,h,w}
    \tfrac{1}{2} \lvert f^{(n)}(x) - x \rvert

where f answers the null intervention and f⁽ⁿ⁾ does so n times, each time upon the image before.
One of the three axioms of counterfactuals that Monteiro et al. turn into distances: Measuring
axiomatic soundness of counterfactual image models, ICLR 2023, https://arxiv.org/abs/2303.01274,
there with any distance between images; here it is the mean absolute difference as a share of the
pixel range, and PSNR beside it.

The functional forms are :func:`~diffcf.evaluation.metrics.fidelity.mean_absolute_error` and
:func:`~diffcf.evaluation.metrics.fidelity.peak_signal_noise_ratio` of the image and the factual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.metrics.fidelity import mean_absolute_error, peak_signal_noise_ratio
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means


class Composition(ImageMetric):
    """Distance (0 … 1, low is good) and PSNR (dB, 100 for equal images) after null interventions.

    A method that never changes a picture is perfect here: read it beside effectiveness.

    Args:
        cycles: after how many null interventions the image is compared.

    >>> composition = Composition(cycles=(1, 10))
    >>> factual = torch.zeros(2, 3, 8, 8)
    >>> composition.update(factual + 0.02, factual, cycle=1)
    >>> composition.update(factual + 0.2, factual, cycle=10)
    >>> {name: round(float(value), 3) for name, value in composition.compute().items()}
    {'composition/1': 0.01, 'composition_psnr/1': 40.0, 'composition/10': 0.1, \
'composition_psnr/10': 20.0}
    """

    def __init__(self, cycles: Sequence[int] = (1, 10), **kwargs: Any) -> None:
        super().__init__(len(cycles), 2, **kwargs)
        self.cycles = tuple(cycles)

    def update(
        self, image: Tensor, factual: Tensor, cycle: int, index: Tensor | None = None
    ) -> None:
        """Add images that went through ``cycle`` null interventions.

        Args:
            image: what they became, ``[B, C, H, W]`` in [-1, 1].
            factual: what they were, likewise.
            cycle: one of ``cycles``.
            index: which image of the set each row is, ``[B]``; None if every row is another.

        Raises:
            ValueError: for shapes or a cycle that do not fit, and for NaN.
        """
        if cycle not in self.cycles:
            raise ValueError(
                f"Composition compares after {', '.join(map(str, self.cycles))} null "
                f"intervention(s), not {cycle}: name {cycle} among its cycles."
            )
        distance = mean_absolute_error(image, factual)
        rows = torch.stack([distance, peak_signal_noise_ratio(image, factual)], dim=1)
        self._add(rows, self.cycles.index(cycle), index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``composition/<n>`` and ``composition_psnr/<n>`` of the cycles that occurred."""
        result: dict[str, Tensor] = {}
        for place in seen:
            cycle = self.cycles[place]
            result[f"composition/{cycle}"] = means[:, place, 0]
            result[f"composition_psnr/{cycle}"] = means[:, place, 1]
        return result


class Reversibility(ImageMetric):
    """Distance (0 … 1, low is good) from the factual after do and undo, by intervened factor.

    A method that never changes a picture is perfect here: read it beside effectiveness.

    Args:
        graph: names the factors, and tells roots from leaves.

    >>> import torch
    >>> from diffcf.causal import CausalGraph, Factor
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
