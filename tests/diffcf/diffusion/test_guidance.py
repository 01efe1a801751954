from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffcf.causal.posterior import LocalPosterior
from diffcf.diffusion.guidance.gradient_rules import (
    ConstantGuidance,
    GaussNewtonGuidance,
    LineSearchGuidance,
    PolyakGuidance,
    VarianceBalancedGuidance,
)
from diffcf.diffusion.guidance.rule import Guidance, NoGuidance
from diffcf.diffusion.process import noise_level


class LinearProjector(nn.Module):
    """ẑ = W x_t with a fixed variance, so that every gradient is known in closed form."""

    def __init__(self, variance: float = 0.04) -> None:
        super().__init__()
        self.weight = torch.randn(2, 3 * 4 * 4, generator=torch.Generator().manual_seed(1)) / 7
        self.level = variance

    def forward(self, x_t: Tensor, t: Tensor) -> LocalPosterior:
        mean = x_t.flatten(1) @ self.weight.T
        variance = torch.full_like(mean, self.level)
        return LocalPosterior(mean, variance, mean, mean, mean)


RULES = [
    ConstantGuidance(0.5),
    VarianceBalancedGuidance(0.1, cap=100.0),
    LineSearchGuidance(1.0),
    PolyakGuidance(1.0),
    GaussNewtonGuidance(),
]


@pytest.fixture
def state() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 3, 4, 4), torch.full((3,), 0.4), torch.rand(3, 2)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_guidance_moves_the_reading_toward_the_target_even_without_grad(
    rule: Guidance, state
) -> None:
    x_t, t, target = state
    projector = LinearProjector()
    with torch.no_grad():
        shift = rule.bind(projector, target)(x_t, 0.4)
    assert torch.isfinite(shift).all()
    # The clean image moves against ε.
    moved = (-shift).flatten(1) @ projector.weight.T
    assert (((target - projector(x_t, t).mean) * moved).sum(dim=1) > 0).all()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_the_factual_bias_is_not_held_against_the_counterfactual(rule: Guidance, state) -> None:
    x_t, t, code = state
    projector = LinearProjector()
    factual_bias = {0.4: projector(x_t, t).mean - code}
    shift = rule.bind(projector, code, factual_bias)(x_t, 0.4)
    assert shift.abs().max() < 1e-3, "the factual itself is left alone"
    assert rule.bind(projector, code)(x_t, 0.4).abs().max() > 1e-2


def test_no_guidance_is_none() -> None:
    assert NoGuidance().bind(LinearProjector(), torch.rand(1, 2)) is None
    assert not NoGuidance().covers(0.5)


def test_constant_is_bayes_rule(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    shift = ConstantGuidance(1.0).bind(projector, target)(x_t, 0.4)
    residual = (target - projector(x_t, t).mean) / 0.04
    gradient = (residual @ projector.weight).view_as(x_t)
    torch.testing.assert_close(shift, -noise_level(t) * gradient)


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


def test_line_search_stops_where_the_reading_is_nearest_along_the_gradient(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    found = LineSearchGuidance(1.0, cap=1e9).shift(projector, target, x_t, t)

    def missed(factor: float) -> Tensor:
        moved = x_t - noise_level(t) * factor * found.eps
        return (target - projector(moved, t).mean).norm(dim=1)

    assert (missed(1.0) < 0.9 * missed(0.0)).all()
    assert (missed(1.0) < missed(0.9)).all() and (missed(1.0) < missed(1.1)).all()
    other = LineSearchGuidance(1.0, cap=1e9).shift(projector, 2 * target, x_t, t)
    assert not torch.allclose(found.strength, other.strength), "it is no constant"
    assert found.strength.std() > 0, "each sample has its own"


def test_line_search_scales_by_its_gain_and_stops_at_its_cap(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    once = LineSearchGuidance(1.0, cap=1e9).shift(projector, target, x_t, t)
    thrice = LineSearchGuidance(3.0, cap=1e9).shift(projector, target, x_t, t)
    torch.testing.assert_close(thrice.eps, 3 * once.eps)
    capped = LineSearchGuidance(1e6, cap=2.0).shift(projector, target, x_t, t)
    torch.testing.assert_close(capped.strength, torch.full((3,), 2.0))


def test_line_search_stands_still_where_the_target_is_reached_or_nothing_moves_the_reading(
    state,
) -> None:
    x_t, t, target = state
    projector = LinearProjector()
    reached = LineSearchGuidance().shift(projector, projector(x_t, t).mean, x_t, t)
    assert torch.isfinite(reached.eps).all() and reached.eps.abs().max() < 1e-3
    projector.weight = torch.zeros_like(projector.weight).requires_grad_()
    blind = LineSearchGuidance().shift(projector, target, x_t, t)
    assert not blind.eps.any() and not blind.strength.any()


def test_polyaks_step_is_the_line_searchs_for_one_factor_and_no_shorter_for_more(state) -> None:
    x_t, t, target = state
    projector = LinearProjector(0.04)
    polyak = PolyakGuidance(1.0, cap=1e9).shift(projector, target, x_t, t)
    search = LineSearchGuidance(1.0, cap=1e9).shift(projector, target, x_t, t)
    assert (polyak.strength > search.strength).all()
    projector.weight = projector.weight[:1]
    polyak = PolyakGuidance(1.0, cap=1e9).shift(projector, target[:, :1], x_t, t)
    search = LineSearchGuidance(1.0, cap=1e9).shift(projector, target[:, :1], x_t, t)
    torch.testing.assert_close(polyak.strength, search.strength, rtol=1e-3, atol=0)


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


def test_outside_its_interval_a_rule_asks_for_nothing(state) -> None:
    x_t, _, target = state
    guide = ConstantGuidance(1.0, t_min=0.5).bind(LinearProjector(), target)
    assert guide(x_t, 0.4) is None and not guide.trace
    guide(x_t, 0.6)
    assert len(guide.trace) == 1 and guide.trace[0][0] == 0.6
    assert guide.trace[0][1].shape == (3,)


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="t_min <= t_max"):
        ConstantGuidance(1.0, t_min=0.6, t_max=0.5)
