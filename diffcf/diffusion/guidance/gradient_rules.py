"""The rules that use the projector's gradient; :mod:`diffcf.diffusion.guidance` derives them."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from diffcf.diffusion.guidance.rule import Guidance, Posterior, Projector, Shift
from diffcf.diffusion.process import noise_level


class State(NamedTuple):
    """A point of the path, as a rule sees it."""

    projector: Projector
    target: Tensor  # the code to reach, [B, E]
    x_t: Tensor
    t: Tensor
    noise: Tensor  # √(1 − ᾱ_t), [B, 1, 1, 1]
    posterior: Posterior  # the projector's, of x_t
    gradient: Tensor  # g_t, like x_t


class _AlongGradient(Guidance):
    """x_t moves by λ_t (1 − ᾱ_t) g_t; a rule gives λ_t."""

    @abstractmethod
    def strength(self, at: State) -> Tensor:
        """λ_t ``[B]``; autograd is off."""

    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            posterior = projector(x_in, t)
            # Σ is held fixed, so that g = Jᵀ Σ⁻¹ (z_cf − ẑ).
            residual = (target - posterior.mean).square() / posterior.variance.detach()
            gradient = torch.autograd.grad(-0.5 * residual.sum(), x_in)[0]
        noise = noise_level(t)
        with torch.no_grad():
            strength = self.strength(State(projector, target, x_t, t, noise, posterior, gradient))
        return Shift(-strength.view(-1, 1, 1, 1) * noise * gradient, strength)


class ConstantGuidance(_AlongGradient):
    """λ_t = ``scale`` throughout; 1 is Bayes' rule."""

    def __init__(self, scale: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.scale = scale

    def strength(self, at: State) -> Tensor:
        return at.x_t.new_full((len(at.x_t),), self.scale)


class VarianceBalancedGuidance(_AlongGradient):
    """λ_t that keeps the guidance term's variance at ``gain``² of the noise's, up to ``cap``."""

    def __init__(
        self, gain: float = 0.1, cap: float = 1.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def strength(self, at: State) -> Tensor:
        spread = at.gradient.flatten(1).std(dim=1).clamp_min(1e-12)
        return (self.gain / (at.noise.flatten() * spread)).clamp_max(self.cap)


class LineSearchGuidance(_AlongGradient):
    """λ_t that brings the projector's mean as near to the target as the gradient can, times
    ``gain``, up to ``cap``; it takes a second evaluation of the projector, at λ = 1."""

    def __init__(
        self, gain: float = 3.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def strength(self, at: State) -> Tensor:
        trial = at.x_t + at.noise.square() * at.gradient
        moved = at.projector(trial, at.t).mean - at.posterior.mean
        weighted = moved / at.posterior.variance
        wanted = (weighted * (at.target - at.posterior.mean)).sum(dim=1)
        # Where the trial does not move the mean, nothing is gained by going further.
        reached = (weighted * moved).sum(dim=1).clamp_min(1e-12)
        return (self.gain * wanted / reached).clamp(0.0, self.cap)


class PolyakGuidance(_AlongGradient):
    """λ_t by Polyak's step, times ``gain``, up to ``cap``: it would reach the target if all
    factors responded alike, and takes no second evaluation."""

    def __init__(
        self, gain: float = 2.0, cap: float = 30.0, t_min: float = 0.0, t_max: float = 1.0
    ) -> None:
        super().__init__(t_min, t_max)
        self.gain, self.cap = gain, cap

    def strength(self, at: State) -> Tensor:
        residual = at.target - at.posterior.mean
        missed = (residual.square() / at.posterior.variance).sum(dim=1)
        steepness = at.noise.flatten().square() * at.gradient.flatten(1).square().sum(dim=1)
        return (self.gain * missed / steepness.clamp_min(1e-12)).clamp_max(self.cap)


class GaussNewtonGuidance(Guidance):
    """The Kalman-gain step; ``gain`` scales it. λ_t is reported as its size relative to g."""

    def __init__(self, gain: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.gain = gain

    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            posterior = projector(x_in, t)
            sums = posterior.mean.sum(dim=0)
            rows = [torch.autograd.grad(each, x_in, retain_graph=True)[0] for each in sums]
        jacobian = torch.stack(rows, dim=1).flatten(2)  # [B, E, CHW]
        residual, variance = target - posterior.mean.detach(), posterior.variance.detach()
        noise = noise_level(t)
        gram = jacobian @ jacobian.mT + torch.diag_embed(variance / noise.flatten(1).square())
        weights = torch.linalg.solve(gram, residual.unsqueeze(-1))
        step = (jacobian.mT @ weights).view_as(x_t)
        # A shift of x_t by Δ is a shift of ε by −Δ / √(1 − ᾱ_t).
        eps = -self.gain * step / noise
        gradient = (jacobian.mT @ (residual / variance).unsqueeze(-1)).flatten(1)
        scale = (noise.flatten() * gradient.norm(dim=1)).clamp_min(1e-12)
        return Shift(eps, eps.flatten(1).norm(dim=1) / scale)
