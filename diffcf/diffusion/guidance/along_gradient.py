"""Rules that go along the gradient and differ in how far."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from diffcf.diffusion.guidance.rule import Guidance, Posterior, Projector, Shift
from diffcf.diffusion.process import noise_level


class Here(NamedTuple):
    """Where a path is: x_t and t, √(1 − ᾱ_t) of shape ``[B, 1, 1, 1]``, what is read, and g_t."""

    x_t: Tensor
    t: Tensor
    noise: Tensor
    posterior: Posterior
    gradient: Tensor


class _AlongGradient(Guidance):
    """x_t moves by λ_t (1 − ᾱ_t) g_t; a rule says only how far."""

    @abstractmethod
    def strength(self, projector: Projector, target: Tensor, here: Here) -> Tensor:
        """λ_t ``[B]`` toward the code ``[B, E]``; gradients are off."""

    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        posterior, gradient = read_gradient(projector, target, x_t, t)
        here = Here(x_t, t, noise_level(t), posterior, gradient)
        with torch.no_grad():
            strength = self.strength(projector, target, here)
        return Shift(-strength.view(-1, 1, 1, 1) * here.noise * gradient, strength)


class _Capped(_AlongGradient):
    """A rule with a ``gain`` γ, whose λ_t goes up to ``cap``."""

    def __init__(self, gain: float, cap: float, t_min: float, t_max: float) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap


class ConstantGuidance(_AlongGradient):
    """λ_t = ``scale`` throughout; 1 is Bayes' rule."""

    def __init__(self, scale: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.scale = scale

    def strength(self, projector: Projector, target: Tensor, here: Here) -> Tensor:
        return here.x_t.new_full((len(here.x_t),), self.scale)


class VarianceBalancedGuidance(_Capped):
    """λ_t that keeps the guidance term's variance at ``gain``² of the noise's, up to ``cap``."""

    def __init__(
        self, gain: float = 0.1, cap: float = 1.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(gain, cap, t_min, t_max)

    def strength(self, projector: Projector, target: Tensor, here: Here) -> Tensor:
        spread = here.gradient.flatten(1).std(dim=1).clamp_min(1e-12)
        return (self.gain / (here.noise.flatten() * spread)).clamp_max(self.cap)


class LineSearchGuidance(_Capped):
    """λ_t that leads the projector's reading as near to the target as the gradient can, times
    ``gain``, up to ``cap``; a second reading, of a step with λ = 1, finds it."""

    def __init__(
        self, gain: float = 3.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(gain, cap, t_min, t_max)

    def strength(self, projector: Projector, target: Tensor, here: Here) -> Tensor:
        trial = here.x_t + here.noise.square() * here.gradient
        moved = projector(trial, here.t).mean - here.posterior.mean
        weighted = moved / here.posterior.variance
        wanted = (weighted * (target - here.posterior.mean)).sum(dim=1)
        # Where the trial does not move the reading, nothing is gained by going further.
        reached = (weighted * moved).sum(dim=1).clamp_min(1e-12)
        return (self.gain * wanted / reached).clamp(0.0, self.cap)


class PolyakGuidance(_Capped):
    """λ_t that would reach the target if only what the gradient sees were in the way, times
    ``gain``, up to ``cap``; it costs no second reading."""

    def __init__(
        self, gain: float = 2.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(gain, cap, t_min, t_max)

    def strength(self, projector: Projector, target: Tensor, here: Here) -> Tensor:
        residual = target - here.posterior.mean
        missed = (residual.square() / here.posterior.variance).sum(dim=1)
        steepness = here.noise.flatten().square() * here.gradient.flatten(1).square().sum(dim=1)
        return (self.gain * missed / steepness.clamp_min(1e-12)).clamp_max(self.cap)


def read_gradient(
    projector: Projector, target: Tensor, x_t: Tensor, t: Tensor
) -> tuple[Posterior, Tensor]:
    """What the projector reads off x_t, and g_t = ∇_{x_t} log p(z_cf | x_t), like x_t.

    Σ is held fixed, so that g = Jᵀ Σ⁻¹ (z_cf − ẑ).
    """
    with torch.enable_grad():
        x_in = x_t.detach().requires_grad_()
        posterior = projector(x_in, t)
        residual = (target - posterior.mean).square() / posterior.variance.detach()
        return posterior, torch.autograd.grad(-0.5 * residual.sum(), x_in)[0]
