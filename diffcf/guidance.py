r"""Guidance: steer a path so that the image it leads to has the wished factors.

With the projector's :math:`\hat z(x_t)`, :math:`\Sigma(x_t)` and the target :math:`z_{cf}`, all of
them codes (:meth:`CausalGraph.encode`; probabilities where factors are discrete),

.. math::
    \tilde\epsilon = \epsilon_\theta - \lambda_t \sqrt{1 - \bar\alpha_t}\; g_t, \qquad
    g_t = \nabla_{x_t} \log p(Z = z_{cf} \mid x_t) = J^\top \Sigma^{-1} (z_{cf} - \hat z).

The projector reads x_t itself, so the gradient passes through the small projector only, never
through the generator. The rules differ in the scalar :math:`\lambda_t`:

- ``none``: 0.
- ``constant``: one number.
- ``variance_balanced``: :math:`\lambda_t = \gamma / (\sqrt{1 - \bar\alpha_t}\, \mathrm{std}(g_t))`
  per sample, capped. The guidance term then has standard deviation γ beside a noise of standard
  deviation 1, at every step. This is *our reconstruction* of the paper's self-adjusting λt: its
  formula is not available to us, only that it balances the variance of the two terms. The cap
  matters: as the target is reached, g vanishes and an uncapped λ would blow up what is left.
- ``gauss_newton``: the shift :math:`J^\top (J J^\top + \Sigma / r^2)^{-1} (z_{cf} - \hat z)` with
  :math:`r^2 = 1 - \bar\alpha_t`: a Kalman gain that adjusts itself per sample and per direction, at
  the price of one backward pass per factor.

References:
    Diffusion Models Beat GANs (Dhariwal & Nichol, 2021), https://arxiv.org/abs/2105.05233
    Pseudoinverse-Guided Diffusion Models (Song et al., 2023), https://openreview.net/forum?id=9_gsMA8MRKQ
    Diffusion counterfactuals: arXiv 2407.20553
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffcf.diffusion import noise_level

__all__ = [
    "ConstantGuidance",
    "GaussNewtonGuidance",
    "Guidance",
    "NoGuidance",
    "Shift",
    "Steering",
    "VarianceBalancedGuidance",
]


NOTHING: Mapping[float, Tensor] = MappingProxyType({})


class Shift(NamedTuple):
    """What a rule asks for: the change of ε̃, ``[B, C, H, W]``, and its λ_t, ``[B]``."""

    eps: Tensor
    strength: Tensor


class Guidance(ABC):
    """A rule for λ_t.

    Args:
        t_min, t_max: guide only while ``t_min <= t <= t_max``; elsewhere nothing is
            added and nothing is spent.
    """

    def __init__(self, t_min: float = 0.0, t_max: float = 1.0) -> None:
        if not 0.0 <= t_min <= t_max <= 1.0:
            raise ValueError(f"Guidance needs 0 <= t_min <= t_max <= 1, got {t_min} and {t_max}.")
        self.t_min, self.t_max = t_min, t_max

    @abstractmethod
    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        """The change of ε̃ at ``x_t`` (images), ``t`` ``[B]``, toward the code ``[B, E]``."""

    def toward(
        self, projector: nn.Module, target: Tensor, misread: Mapping[float, Tensor] = NOTHING
    ) -> Steering | None:
        """The guide toward a code ``[B, E]``; None where nothing is to be guided.

        Args:
            projector: reads x_t.
            target: the code of the wished factors.
            misread: by time, how far the projector's reading of the factual's own x_t was from the
                factual's code, ``[B, E]``. It is expected of the counterfactual's reading as well,
                so that guidance asks for the *change* of factors and leaves a factual alone.
        """
        return Steering(self, projector, target, misread)

    def covers(self, time: float) -> bool:
        """Whether the rule guides at this time."""
        return self.t_min <= time <= self.t_max and time > 0.0


class Steering:
    """A rule on its way to a target: a :data:`diffcf.sampling.Guide` with a trace.

    Its ``trace`` collects (t, λ_t ``[B]``) of every guided step.
    """

    def __init__(
        self,
        rule: Guidance,
        projector: nn.Module,
        target: Tensor,
        misread: Mapping[float, Tensor] = NOTHING,
    ) -> None:
        self.rule, self.projector = rule, projector
        self.target, self.misread = target, misread
        self.trace: list[tuple[float, Tensor]] = []

    def __call__(self, x_t: Tensor, time: float) -> Tensor | None:
        if not self.rule.covers(time):
            return None
        t = x_t.new_full((len(x_t),), time)
        target = self.target + self.misread.get(time, 0.0)
        shift = self.rule.shift(self.projector, target, x_t, t)
        self.trace.append((time, shift.strength.detach()))
        return shift.eps


class NoGuidance(Guidance):
    """λ_t = 0: the generator alone, by its own conditioning."""

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        return Shift(torch.zeros_like(x_t), x_t.new_zeros(len(x_t)))

    def toward(
        self, projector: nn.Module, target: Tensor, misread: Mapping[float, Tensor] = NOTHING
    ) -> Steering | None:
        return None

    def covers(self, time: float) -> bool:
        return False


class ConstantGuidance(Guidance):
    """λ_t = ``scale`` throughout; 1 is Bayes' rule."""

    def __init__(self, scale: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.scale = scale

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        gradient = _log_prob_gradient(projector, target, x_t, t)
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
        gradient = _log_prob_gradient(projector, target, x_t, t)
        noise = noise_level(t)
        spread = gradient.flatten(1).std(dim=1).clamp_min(1e-12)
        strength = (self.gain / (noise.flatten() * spread)).clamp_max(self.cap)
        return Shift(-strength.view(-1, 1, 1, 1) * noise * gradient, strength)


class GaussNewtonGuidance(Guidance):
    """The Kalman-gain step; ``gain`` scales it. λ_t is reported as its size relative to g."""

    def __init__(self, gain: float = 1.0, t_min: float = 0.0, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.gain = gain

    def shift(self, projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
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


def _log_prob_gradient(projector: nn.Module, target: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """g_t = ∇_{x_t} log p(z_cf | x_t), with Σ held fixed so that g = Jᵀ Σ⁻¹ (z_cf − ẑ)."""
    with torch.enable_grad():
        x_in = x_t.detach().requires_grad_()
        posterior = projector(x_in, t)
        residual = (target - posterior.mean).square() / posterior.variance.detach()
        return torch.autograd.grad(-0.5 * residual.sum(), x_in)[0]
