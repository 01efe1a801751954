"""A rule that solves for the shift, direction and all."""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.diffusion.guidance.rule import Guidance, Projector, Shift
from diffcf.diffusion.process import noise_level


class GaussNewtonGuidance(Guidance):
    """The Kalman-gain step; ``gain`` scales it. λ_t is reported as its size relative to g."""

    def __init__(self, gain: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.gain = gain

    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            posterior = projector(x_in, t)
            rows = [
                torch.autograd.grad(column.sum(), x_in, retain_graph=True)[0]
                for column in posterior.mean.unbind(dim=1)
            ]
        jacobian = torch.stack(rows, dim=1).flatten(2)  # [B, K, CHW]
        residual = target - posterior.mean.detach()
        variance = posterior.variance.detach()
        noise = noise_level(t)
        precision = noise.flatten(1).square()
        gram = jacobian @ jacobian.mT + torch.diag_embed(variance / precision)
        weights = torch.linalg.solve(gram, residual.unsqueeze(-1))
        step = (jacobian.mT @ weights).view_as(x_t)
        # A shift of x_t by Δ is a shift of ε by −Δ / √(1 − ᾱ_t).
        eps_shift = -self.gain * step / noise
        gradient = (jacobian.mT @ (residual / variance).unsqueeze(-1)).flatten(1)
        strength = eps_shift.flatten(1).norm(dim=1) / (
            noise.flatten() * gradient.norm(dim=1)
        ).clamp_min(1e-12)
        return Shift(eps_shift, strength)
