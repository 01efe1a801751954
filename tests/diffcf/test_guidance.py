from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffcf.diffusion import Prediction, noise_level, signal_level
from diffcf.guidance import (
    ConstantGuidance,
    GaussNewtonGuidance,
    Guidance,
    NoGuidance,
    VarianceBalancedGuidance,
)
from diffcf.projector import FactorPosterior


class LinearProjector(nn.Module):
    """ẑ = W x_t with a fixed variance, so that every gradient is known in closed form."""

    def __init__(self, variance: float = 0.04) -> None:
        super().__init__()
        self.weight = torch.randn(2, 3 * 4 * 4, generator=torch.Generator().manual_seed(1)) / 7
        self.level = variance

    def forward(self, x_t: Tensor, t: Tensor) -> FactorPosterior:
        mean = x_t.flatten(1) @ self.weight.T
        variance = torch.full_like(mean, self.level)
        return FactorPosterior(mean, variance, mean, mean, mean)


def denoiser(x_t: Tensor, t: Tensor) -> Prediction:
    """Consistent with x_t, like every denoiser."""
    eps = 0.1 * x_t
    return Prediction((x_t - noise_level(t) * eps) / signal_level(t), eps)


RULES = [
    NoGuidance(),
    ConstantGuidance(0.5),
    VarianceBalancedGuidance(0.1, cap=100.0),
    GaussNewtonGuidance(),
]


@pytest.fixture
def state() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 3, 4, 4), torch.full((3,), 0.4), torch.rand(3, 2)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_what_a_guided_denoiser_says_stays_consistent_with_x_t(rule: Guidance, state) -> None:
    x_t, t, target = state
    guided = rule.wrap(denoiser, LinearProjector(), target)(x_t, t)
    back = signal_level(t) * guided.denoised + noise_level(t) * guided.eps
    torch.testing.assert_close(back, x_t)


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: type(rule).__name__)
def test_guidance_moves_the_reading_toward_the_target_even_without_grad(
    rule: Guidance, state
) -> None:
    x_t, t, target = state
    projector = LinearProjector()
    with torch.no_grad():
        guided = rule.wrap(denoiser, projector, target)(x_t, t)
    before = (projector(denoiser(x_t, t).denoised, t).mean - target).norm(dim=1)
    step = (guided.denoised - denoiser(x_t, t).denoised) * 1e-3
    after = (projector(denoiser(x_t, t).denoised + step, t).mean - target).norm(dim=1)
    toward = (projector(x_t, t).mean - target) * (step.flatten(1) @ projector.weight.T)
    assert (toward.sum(dim=1) < 0).all()
    assert torch.isfinite(before).all() and torch.isfinite(after).all()


def test_no_guidance_is_the_denoiser_itself() -> None:
    assert NoGuidance().wrap(denoiser, LinearProjector(), torch.rand(1, 2)) is denoiser


def test_constant_is_bayes_rule(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    guided = ConstantGuidance(1.0).wrap(denoiser, projector, target)(x_t, t)
    residual = (target - projector(x_t, t).mean) / 0.04
    gradient = (residual @ projector.weight).view_as(x_t)
    expected = denoiser(x_t, t).eps - noise_level(t) * gradient
    torch.testing.assert_close(guided.eps, expected)


def test_variance_balanced_gives_the_term_the_wished_spread_or_stops_at_the_cap(state) -> None:
    x_t, t, target = state
    projector = LinearProjector()
    free = VarianceBalancedGuidance(0.1, cap=1e9).shift(projector, target, x_t, t)
    torch.testing.assert_close(free.eps.flatten(1).std(dim=1), torch.full((3,), 0.1))
    capped = VarianceBalancedGuidance(0.1, cap=1e-3).shift(projector, target, x_t, t)
    torch.testing.assert_close(capped.strength, torch.full((3,), 1e-3))
    reached = VarianceBalancedGuidance(0.1).shift(projector, projector(x_t, t).mean, x_t, t)
    assert torch.isfinite(reached.eps).all()
    assert reached.eps.abs().max() < 1e-3


def test_gauss_newton_reaches_the_target_of_a_sure_linear_projector_in_one_step(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(variance=1e-10)
    shift = GaussNewtonGuidance().shift(projector, target, x_t, t)
    moved = x_t - noise_level(t) * shift.eps
    torch.testing.assert_close(projector(moved, t).mean, target, atol=1e-3, rtol=0)


def test_gauss_newton_is_the_kalman_gain(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    shift = GaussNewtonGuidance().shift(projector, target, x_t, t)
    jac, r2 = projector.weight, float(noise_level(t)[0]) ** 2
    inner = torch.linalg.inv(jac @ jac.T + 0.04 / r2 * torch.eye(2))
    step = ((target - projector(x_t, t).mean) @ inner @ jac).view_as(x_t)
    torch.testing.assert_close(-noise_level(t) * shift.eps, step, atol=1e-4, rtol=1e-3)


def test_outside_its_interval_a_rule_leaves_the_denoiser_alone(state) -> None:
    x_t, t, target = state
    guided = ConstantGuidance(1.0, t_min=0.5).wrap(denoiser, LinearProjector(), target)
    torch.testing.assert_close(guided(x_t, t).eps, denoiser(x_t, t).eps)
    assert not guided.trace
    guided(x_t, torch.full((3,), 0.6))
    assert len(guided.trace) == 1 and guided.trace[0][1].shape == (3,)


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="t_min <= t_max"):
        ConstantGuidance(1.0, t_min=0.6, t_max=0.5)
