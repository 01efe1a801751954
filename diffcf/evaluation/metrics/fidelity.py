"""Distances between images: to the exact counterfactual, and how much changed beyond need.

The exact counterfactual can be drawn for synthetic scenes only. SSIM is that of Wang et al., Image
quality assessment: from error visibility to structural similarity, IEEE Transactions on Image
Processing 13(4), 2004, equation 13, with their Gaussian window (σ 1.5, 11 pixels) and constants
(0.01, 0.03), over mirrored borders.

Every function raises ValueError unless its arguments are images ``[B, C, H, W]`` of one shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from diffcf.evaluation.metrics.image_metric import FactorMetric, ImageMetric

PIXEL_RANGE = 2.0
LEAST_ERROR = 1e-10
WINDOW = 11
BORDER = 1 / 8  # of a side, of :class:`Change`


def check_images(*images: Tensor) -> None:
    shapes = [tuple(image.shape) for image in images]
    if len(set(shapes)) != 1 or len(shapes[0]) != 4:
        raise ValueError(
            f"Images that are compared must all have one shape [B, C, H, W], got "
            f"{' and '.join(map(str, shapes))}."
        )


def mean_absolute_error(image: Tensor, exact: Tensor) -> Tensor:
    """Mean absolute difference over pixels and channels, ``[B]``: 1 for black against white."""
    check_images(image, exact)
    return (image.float() - exact.float()).abs().flatten(1).mean(dim=1) / PIXEL_RANGE


def peak_signal_noise_ratio(image: Tensor, exact: Tensor) -> Tensor:
    """PSNR of each image, ``[B]``: −10 log₁₀ max(MSE, 1e-10) dB, MSE in units of the range squared.

    So equal images have 100 dB and not infinitely many, which no mean over images would survive.
    """
    check_images(image, exact)
    error = (image.float() - exact.float()).square().flatten(1).mean(dim=1) / PIXEL_RANGE**2
    return -10 * error.clamp(min=LEAST_ERROR).log10()


def structural_similarity(image: Tensor, exact: Tensor) -> Tensor:
    """SSIM of each image, ``[B]``: 1 for equal images, near 0 for unrelated ones, at least -1.

    Also raises ValueError for images too small to mirror half a window at the borders.
    """
    check_images(image, exact)
    if min(image.shape[-2:]) <= WINDOW // 2:
        raise ValueError(
            f"SSIM needs images of {WINDOW // 2 + 1} pixels or more a side, got "
            f"{image.shape[-2]} x {image.shape[-1]}."
        )
    similarity = structural_similarity_index_measure(
        image.float(), exact.float(), reduction="none", data_range=(-1.0, 1.0)
    )
    assert isinstance(similarity, Tensor)
    return similarity


def excess_change(image: Tensor, factual: Tensor, exact: Tensor) -> Tensor:
    """Change beyond that of ``exact``, ``[B]``, in 0 … 1, a share of the pixel range."""
    check_images(image, factual, exact)
    factual = factual.float()
    excess = (image.float() - factual).abs() - (exact.float() - factual).abs()
    return excess.clamp(min=0).flatten(1).mean(dim=1) / PIXEL_RANGE


class Fidelity(FactorMetric):
    """PSNR, MAE and SSIM to the exact counterfactual, by intervened factor, over roots and leaves.

    Means over images, so PSNR is a mean of decibels. High PSNR and SSIM are good, low MAE is.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> fidelity = Fidelity(CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")]))
    >>> exact = torch.zeros(1, 3, 16, 16)
    >>> fidelity.update(exact + 0.2, exact, column=1)
    >>> result = fidelity.compute()
    >>> {name: round(float(result[name]), 3) for name in ("psnr/shade", "mae/shade", "psnr/leaves")}
    {'psnr/shade': 20.0, 'mae/shade': 0.1, 'psnr/leaves': 20.0}
    """

    quantity_names = ("psnr", "mae", "ssim")

    def update(
        self, image: Tensor, exact: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add counterfactual and exact images, ``[B, C, H, W]`` in [-1, 1] each."""
        measures = (peak_signal_noise_ratio, mean_absolute_error, structural_similarity)
        rows = torch.stack([measure(image, exact) for measure in measures], dim=1)
        self._add(rows, column, index)


class SequenceFidelity(ImageMetric):
    """PSNR (dB, 100 for equal images) to the exact image, after each step of a sequence.

    >>> fidelity = SequenceFidelity(steps=2)
    >>> exact = torch.zeros(2, 3, 8, 8)
    >>> fidelity.update(exact + 0.02, exact, step=0)
    >>> fidelity.update(exact + 0.2, exact, step=1)
    >>> {name: round(float(value), 3) for name, value in fidelity.compute().items()}
    {'psnr/step_1': 40.0, 'psnr/step_2': 20.0}
    """

    higher_is_better = True

    def __init__(self, steps: int, **kwargs: object) -> None:
        super().__init__(steps, 1, **kwargs)

    def update(self, image: Tensor, exact: Tensor, step: int, index: Tensor | None = None) -> None:
        """Add images ``[B, C, H, W]`` in [-1, 1] after step ``step``, counted from 0."""
        self._add(peak_signal_noise_ratio(image, exact)[:, None], step, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``psnr/step_<n>``, n from 1."""
        return {f"psnr/step_{place + 1}": means[:, place, 0] for place in seen}


class Change(FactorMetric):
    """How much of the picture an intervention moves, needing no exact image, by factor set.

    ``change``: mean absolute difference from the factual, a share of the pixel range.
    ``border_change``: the same over the outer :data:`BORDER` of each side. Where the subject is in
    the middle, as in aligned photographs of faces, that is background, and light.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> change = Change(CausalGraph([Factor("smile", "binary")]))
    >>> factual, image = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    >>> image[..., 4:12, 4:12] = 0.2
    >>> change.update(image, factual, column=0)
    >>> result = change.compute()
    >>> [round(float(result[name]), 3) for name in ("change", "border_change/smile")]
    [0.025, 0.0]
    """

    quantity_names = ("change", "border_change")

    def update(
        self, image: Tensor, factual: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add counterfactual and factual images, ``[B, C, H, W]`` in [-1, 1] each."""
        check_images(image, factual)
        moved = (image.float() - factual.float()).abs().mean(dim=1) / PIXEL_RANGE
        edge = torch.ones_like(moved[0], dtype=torch.bool)
        rows, columns = (max(1, round(side * BORDER)) for side in edge.shape)
        edge[rows:-rows, columns:-columns] = False
        parts = [moved.flatten(1).mean(dim=1), moved[:, edge].mean(dim=1)]
        self._add(torch.stack(parts, dim=1), column, index)


class Minimality(FactorMetric):
    """Excess change (0 … 1, low is good) by intervened factor, over roots and leaves.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")])
    >>> minimality, factual = Minimality(graph), torch.zeros(2, 3, 8, 8)
    >>> exact = factual.clone()
    >>> exact[..., :4] = 0.6
    >>> minimality.update(factual + 0.2, factual, exact, column=0)
    >>> {name: round(float(value), 3) for name, value in minimality.compute().items()}
    {'minimality': 0.05, 'minimality/sun': 0.05, 'minimality/roots': 0.05}
    """

    higher_is_better = False
    quantity_names = ("minimality",)

    def update(
        self,
        image: Tensor,
        factual: Tensor,
        exact: Tensor,
        column: int,
        index: Tensor | None = None,
    ) -> None:
        """Add counterfactual, factual and exact images, ``[B, C, H, W]`` in [-1, 1] each."""
        self._add(excess_change(image, factual, exact)[:, None], column, index)
