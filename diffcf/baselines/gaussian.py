"""Gaussians of tensors: what a VAE's prior, posterior and pixels are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Gaussian", "gaussian_kl"]


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians: mean and log of the standard deviation, of one shape."""

    mean: Tensor
    log_scale: Tensor

    @property
    def scale(self) -> Tensor:
        """Standard deviation."""
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        """Square of the standard deviation."""
        return (2 * self.log_scale).exp()

    def sample(self) -> Tensor:
        """A draw that gradients go through."""
        return self.mean + self.scale * torch.randn_like(self.mean)

    def divergence(self, mean: Tensor | float, scale: float) -> Tensor:
        """KL divergence to N(``mean``, ``scale``²), in nats, averaged over everything; scalar."""
        like = self.log_scale
        return gaussian_kl(
            self, Gaussian(like.new_zeros(()) + mean, like.new_tensor(scale).log())
        ).mean()

    def standardised(self, value: Tensor) -> Tensor:
        """How many standard deviations ``value`` is from the mean."""
        return (value - self.mean) / self.scale


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, elementwise.

    >>> q, p = (Gaussian(torch.tensor(m), torch.tensor(0.0)) for m in (1.0, 0.0))
    >>> gaussian_kl(q, p), gaussian_kl(p, p)
    (tensor(0.5000), tensor(0.))
    """
    spread = (2 * (q.log_scale - p.log_scale)).exp() + p.standardised(q.mean).square()
    return p.log_scale - q.log_scale + 0.5 * (spread - 1)
