r"""A filter of the change: what recolours a thing leaves its outline.

A generator draws outlines anew and a little softer, also where a counterfactual changes colours
alone. Of the factual x and the answer y, the change Δ = y - x is filtered along the edges of x by
the guided filter (He et al., 2013, Guided image filtering, https://doi.org/10.1109/TPAMI.2012.213):
within each window it is fitted by a linear function of the colours of x, whose edges are sharp.
Where the fit f misses Δ, as where something else is drawn, Δ stays; where it does not, f stands in
for it:

.. math:: y' = x + w f + (1 - w) Δ, \quad w = \exp(-\overline{(f - Δ)^2} / m),

the mean taken over the window and the channels. Where nothing changes nothing is changed. (The
weight, and that the change is filtered instead of the answer, are ours.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.io import SettingsError


@dataclass(frozen=True)
class ChangeFilter:
    """How the change is filtered.

    Attributes:
        radius: of the window, in pixels: it has 2 radius + 1 a side.
        epsilon: variance of the factual's colours, in units of [-1, 1] squared, far below which
            they are taken for one colour.
        misfit: m, the mean squared misfit, in the same units, at which the weight has fallen to
            1 / e.

    Raises:
        SettingsError: for a radius below 1, and numbers that are not positive.
    """

    radius: int = 3
    epsilon: float = 1e-3
    misfit: float = 3e-3

    def __post_init__(self) -> None:
        whole = isinstance(self.radius, int) and not isinstance(self.radius, bool)
        if not whole or self.radius < 1:
            raise SettingsError(f"The radius of change_filter is 1 or more, not {self.radius}.")
        for name in ("epsilon", "misfit"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise SettingsError(
                    f"{name} of change_filter is a positive number, not {getattr(self, name)}."
                )

    def __call__(self, factual: Tensor, answer: Tensor) -> Tensor:
        """The answer ``[B, C, H, W]`` to the factual ``[B, C, H, W]``, its change filtered.

        >>> image = torch.rand(1, 3, 16, 16)
        >>> bool((ChangeFilter()(image, image) == image).all())
        True
        """
        x, y = factual.float(), answer.float()
        change = y - x
        fitted = self._fitted(x, change)
        missed = self._mean((fitted - change).square()).mean(dim=1, keepdim=True)
        filtered = y + torch.exp(-missed / self.misfit) * (fitted - change)
        return filtered.to(answer.dtype)

    def _fitted(self, guide: Tensor, change: Tensor) -> Tensor:
        """The change as a linear function of the guide's channels, the mean of all windows'."""
        channels = guide.shape[1]
        m, n = self._mean(guide), self._mean(change)
        own = self._products(guide, guide) - m[:, :, None] * m[:, None]
        both = self._products(guide, change) - m[:, :, None] * n[:, None]
        even = self.epsilon * torch.eye(channels, device=guide.device)
        own, both = (part.permute(0, 3, 4, 1, 2) for part in (own, both))
        slope = torch.linalg.solve(own + even, both).permute(0, 3, 4, 1, 2)
        offset = n - (slope * m[:, :, None]).sum(dim=1)
        slope = self._mean(slope.flatten(1, 2)).view_as(slope)
        return (slope * guide[:, :, None]).sum(dim=1) + self._mean(offset)

    def _products(self, a: Tensor, b: Tensor) -> Tensor:
        """Window means of the products of channels, ``[B, C, C, H, W]``."""
        products = a[:, :, None] * b[:, None]
        return self._mean(products.flatten(1, 2)).view_as(products)

    def _mean(self, image: Tensor) -> Tensor:
        """Of each window, as far as it lies in the picture."""
        size = 2 * self.radius + 1
        return F.avg_pool2d(image, size, 1, self.radius, count_include_pad=False)
