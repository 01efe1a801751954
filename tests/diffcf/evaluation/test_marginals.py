"""Marginals that a causal model draws, beside a scene's true ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from data_modules.scenes import CartoonFaces, PendulumScene
from diffcf.causal import CausalGraph, Factor, uniform_noise
from diffcf.evaluation import marginal_distances, total_variation

SCENE = PendulumScene()
GRID = SCENE.published_grid()[0].float()
GRID = GRID[SCENE.visible(GRID)]
FACES = CartoonFaces()


class Truth:
    """Draws from the true model: rows of the grid, effects by the scene."""

    graph = SCENE.graph

    def draw(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        u = uniform_noise(keys, 1)
        rows = GRID[(u[:, 0] * len(GRID)).long()]
        return SCENE.counterfactual(rows, values, mask), u


class Conditional(Truth):
    """Shows the rows that have the value, as if seeing were setting."""

    def draw(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        factors, u = super().draw(keys, torch.zeros_like(values), torch.zeros_like(mask))
        if mask.any():
            column = int(mask[0].nonzero()[0])
            near = (GRID[:, column] - values[0, column]).abs().topk(200, largest=False).indices
            factors = GRID[near[(u[:, 0] * 200).long()]]
        return factors, u


def test_the_true_model_is_at_distance_nothing_but_for_chance() -> None:
    found = marginal_distances(Truth(), SCENE, GRID, 8192)  # type: ignore[arg-type]
    assert set(found["do()"]) == set(SCENE.graph.names)
    assert len(found) == 1 + 2 * len(SCENE.graph)  # quartiles of each number
    assert max(value for row in found.values() for value in row.values()) < 0.03


def test_what_is_set_is_left_out_and_seeing_is_not_setting() -> None:
    found = marginal_distances(Conditional(), SCENE, GRID, 4096)  # type: ignore[arg-type]
    under = [row for title, row in found.items() if title.startswith("do(shadow_position")]
    assert all("shadow_position" not in row for row in under)
    assert max(row["light"] for row in under) > 0.2  # light does not follow its effect


def test_binary_effects_are_compared_with_their_probabilities() -> None:
    factors, _ = FACES.sample(400, torch.Generator().manual_seed(0))

    class Often:
        graph = FACES.graph

        def draw(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            return torch.where(mask, values, 1.0), keys[:, None]

    found = marginal_distances(Often(), FACES, factors, 64)  # type: ignore[arg-type]
    for cause, row in found.items():
        for name, distance in row.items():
            column = FACES.graph.column(name)
            if cause == "do()":
                assert distance == pytest.approx(1 - factors[:, column].mean().item(), abs=1e-6)
            assert 0 <= distance <= 1


GRAPH = CausalGraph([Factor("x"), Factor("n", "integer", low=0, high=4)], [])


def test_a_value_that_many_images_share_has_a_bin_with_some_width() -> None:
    truth = torch.cat([torch.zeros(500), torch.linspace(0, 1, 500)])
    drawn = torch.cat([torch.rand(500) * 0.009, torch.linspace(0, 1, 500)])
    assert total_variation(GRAPH, 0, drawn, truth) < 0.02
    assert total_variation(GRAPH, 0, drawn + 0.3, truth) > 0.4


def test_a_number_of_few_values_is_compared_value_by_value() -> None:
    truth = torch.tensor([0.0, 0.5, 1.0]).repeat(100)
    assert total_variation(GRAPH, 0, truth + 0.1 * torch.rand(300), truth) == 0.0
    assert total_variation(GRAPH, 0, torch.rand(30000), truth) == pytest.approx(1 / 6, abs=0.01)
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert total_variation(GRAPH, 1, levels[:1].expand(50), levels) == pytest.approx(0.8)
