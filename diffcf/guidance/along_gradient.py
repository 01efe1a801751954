"""Rules that go along the gradient and differ in how far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcf.diffusion import noise_level
from diffcf.guidance.rule import Guidance, Shift
from diffcf.projector import FactorPosterior

__all__ = [
    "ConstantGuidance",
    "LineSearchGuidance",
    "PolyakGuidance",
    "VarianceBalancedGuidance",
]


class ConstantGuidance(Guidance):
    """λ_t = ``scale`` throughout; 1 is Bayes' rule."""

    def __init__(self, scale: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.scale = scale

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        _, gradient = read_toward(projector, target, x_t, t)
        strength = x_t.new_full((len(x_t),), self.scale)
        return Shift(-self.scale * noise_level(t) * gradient, strength)


class VarianceBalancedGuidance(Guidance):
    """λ_t that keeps the guidance term's variance at ``gain``² of the noise's, up to ``cap``."""

    def __init__(
        self, gain: float = 0.1, cap: float = 1.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        _, gradient = read_toward(projector, target, x_t, t)
        noise = noise_level(t)
        spread = gradient.flatten(1).std(dim=1).clamp_min(1e-12)
        strength = (self.gain / (noise.flatten() * spread)).clamp_max(self.cap)
        return Shift(-strength.view(-1, 1, 1, 1) * noise * gradient, strength)


class LineSearchGuidance(Guidance):
    """λ_t that leads the projector's reading as near to the target as the gradient can, times
    ``gain``, up to ``cap``; a second reading, of a step with λ = 1, finds it."""

    def __init__(
        self, gain: float = 3.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        posterior, gradient = read_toward(projector, target, x_t, t)
        noise = noise_level(t)
        with torch.no_grad():
            moved = projector(x_t + noise.square() * gradient, t).mean - posterior.mean
            weighted = moved / posterior.variance
            wanted = (weighted * (target - posterior.mean)).sum(dim=1)
            # Where the trial does not move the reading, nothing is gained by going further.
            reached = (weighted * moved).sum(dim=1).clamp_min(1e-12)
        strength = (self.gain * wanted / reached).clamp(0.0, self.cap)
        return Shift(-strength.view(-1, 1, 1, 1) * noise * gradient, strength)


class PolyakGuidance(Guidance):
    """λ_t that would reach the target if only what the gradient sees were in the way, times
    ``gain``, up to ``cap``; it costs no second reading."""

    def __init__(
        self, gain: float = 2.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        posterior, gradient = read_toward(projector, target, x_t, t)
        noise = noise_level(t)
        missed = ((target - posterior.mean).square() / posterior.variance).sum(dim=1).detach()
        steepness = noise.flatten().square() * gradient.flatten(1).square().sum(dim=1)
        strength = (self.gain * missed / steepness.clamp_min(1e-12)).clamp_max(self.cap)
        return Shift(-strength.view(-1, 1, 1, 1) * noise * gradient, strength)


def read_toward(
    projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor
) -> tuple[FactorPosterior, Tensor]:
    """What the projector reads off x_t, and g_t = ∇_{x_t} log p(z_cf | x_t), like x_t.

    Σ is held fixed, so that g = Jᵀ Σ⁻¹ (z_cf − ẑ).
    """
    with torch.enable_grad():
        x_in = x_t.detach().requires_grad_()
        posterior = projector(x_in, t)
        residual = (target - posterior.mean).square() / posterior.variance.detach()
        return posterior, torch.autograd.grad(-0.5 * residual.sum(), x_in)[0]
