"""Fidelity of a sequence: the image after each of several interventions in turn, by its exact one.

ACM may stay small while a picture decays, since a reader looks past grain; PSNR does not. The
functional form is :func:`~diffcf.metrics.fidelity.peak_signal_noise_ratio`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffcf.metrics.fidelity import peak_signal_noise_ratio
from diffcf.metrics.image_metric import ImageMetric

__all__ = ["SequenceFidelity"]


class SequenceFidelity(ImageMetric):
    """PSNR (dB, 100 for equal images) to the exact image, after each step of a sequence.

    Args:
        steps: interventions in turn.

    >>> import torch
    >>> fidelity = SequenceFidelity(steps=2)
    >>> exact = torch.zeros(2, 3, 8, 8)
    >>> fidelity.update(exact + 0.02, exact, step=0)
    >>> fidelity.update(exact + 0.2, exact, step=1)
    >>> {name: round(float(value), 3) for name, value in fidelity.compute().items()}
    {'psnr/step_1': 40.0, 'psnr/step_2': 20.0}
    """

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(steps, 1, **kwargs)

    def update(self, image: Tensor, exact: Tensor, step: int, index: Tensor | None = None) -> None:
        """Add images after step ``step``, counted from 0.

        Args:
            image: ``[B, C, H, W]`` in [-1, 1].
            exact: likewise.
            step: below ``steps``.
            index: which image of the set each row is, ``[B]``; None if every row is another.

        Raises:
            ValueError: for shapes that do not fit, and for NaN.
        """
        self._add(peak_signal_noise_ratio(image, exact)[:, None], step, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``psnr/step_<n>``, n from 1."""
        return {f"psnr/step_{place + 1}": means[:, place, 0] for place in seen}
