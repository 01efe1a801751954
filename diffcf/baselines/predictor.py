"""A reader of noisy images as the baselines know it: one network over the whole picture."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.baselines.encoder import ImageEncoder
from diffcf.graph import CausalGraph

__all__ = ["FactorPredictor", "Reading"]


class Reading(NamedTuple):
    """Mean and variance ``[B, E]`` of the factors' code."""

    mean: Tensor
    variance: Tensor


class FactorPredictor(nn.Module):
    """p(factors | image): Gaussian for continuous factors, by its logit for a discrete one.

    Args:
        graph: gives the factors and their kinds.
        scale_floor: least standard deviation that it may claim.
        encoder: arguments of :class:`ImageEncoder` other than ``outputs``.
    """

    _discrete: Tensor

    def __init__(
        self, graph: CausalGraph, scale_floor: float = 0.01, encoder: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.graph, self.scale_floor = graph, scale_floor
        owner = graph.code_owner
        self.register_buffer("_discrete", graph.discrete[owner], persistent=False)
        self._categorical = [factor.kind == "categorical" for factor in graph.factors]
        self.encoder = ImageEncoder(2 * len(owner), **(encoder or {}))

    def forward(self, image: Tensor, t: Tensor | None = None) -> Reading:
        """Read images ``[B, C, H, W]``, noisy ones at times ``[B]``; None for clean ones."""
        raw, log_scale = self.encoder(image, t).chunk(2, dim=1)
        scale = self.scale_floor + F.softplus(log_scale - 1.0)
        probability = self._probability(raw)
        bernoulli = (probability * (1 - probability)).clamp_min(1e-6)
        mean = torch.where(self._discrete, probability, raw + 0.5)
        return Reading(mean, torch.where(self._discrete, bernoulli, scale.square()))

    def _probability(self, raw: Tensor) -> Tensor:
        parts = [
            part.softmax(dim=1) if categorical else part.sigmoid()
            for part, categorical in zip(
                raw.split(self.graph.widths, dim=1), self._categorical, strict=True
            )
        ]
        return torch.cat(parts, dim=1)

    def loss(self, reading: Reading, factors: Tensor, trust: float = 0.0) -> Tensor:
        """Mean negative log-likelihood of factors ``[B, K]``, per entry of their code; scalar.

        ``trust`` is the least standard deviation that a reading is granted, in [0, 1] units.
        """
        code = self.graph.encode(factors)
        variance = reading.variance.clamp_min(trust**2)
        gauss = 0.5 * ((code - reading.mean).square() / variance + variance.log())
        p = reading.mean.clamp(1e-6, 1 - 1e-6)
        entropy = F.binary_cross_entropy(
            torch.where(self._discrete, p, 0.5), code.clamp(0, 1), reduction="none"
        )
        return torch.where(self._discrete, entropy, gauss).mean()
