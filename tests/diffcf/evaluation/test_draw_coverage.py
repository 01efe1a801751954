"""Draws of effects against their true distribution, which a scene with random mechanisms knows."""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes import CartoonFaces, PendulumScene
from diffcf.causal import row_keys, uniform_noise
from diffcf.evaluation import draw_coverage

SCENE = CartoonFaces()
FACTORS, _ = SCENE.sample(200, torch.Generator().manual_seed(0))


class TruePosterior:
    """Draws every effect with its true probability."""

    graph = SCENE.graph

    def abduct(self, factors: Tensor, keys: Tensor | None = None) -> Tensor:
        keys = row_keys(torch.arange(len(factors)), 0) if keys is None else keys
        return uniform_noise(keys, factors.shape[1])

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        chance = SCENE.counterfactual(factors, values, mask)
        return torch.where(mask, values, (exogenous < chance).to(factors))


class Certain(TruePosterior):
    """Lets nothing follow."""

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, values, factors)


def test_draws_of_the_true_posterior_cover_the_truth() -> None:
    found = draw_coverage(TruePosterior(), SCENE, FACTORS)  # type: ignore[arg-type]
    assert abs(found["draws/coverage"] - 0.9) < 0.02
    assert found["draws/gap"] < 0.05 and found["draws/energy"] < 0.01
    again = draw_coverage(TruePosterior(), SCENE, FACTORS)  # type: ignore[arg-type]
    assert again == found


def test_draws_without_spread_are_told_apart() -> None:
    found = draw_coverage(Certain(), SCENE, FACTORS)  # type: ignore[arg-type]
    whole = draw_coverage(TruePosterior(), SCENE, FACTORS)  # type: ignore[arg-type]
    assert found["draws/coverage"] < whole["draws/coverage"]
    assert found["draws/gap"] > 3 * whole["draws/gap"]
    assert found["draws/energy"] > 3 * whole["draws/energy"]


def test_without_binary_effects_nothing_is_measured() -> None:
    scene = PendulumScene()
    assert draw_coverage(Certain(), scene, torch.full((3, 4), 0.5)) == {}  # type: ignore[arg-type]
