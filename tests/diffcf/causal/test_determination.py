"""What a table does not determine: functions of other factors, combinations never seen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from data_modules.scenes import CartoonFaces, FlowScene, PendulumScene, SunlightScene
from diffcf.causal.determination import find_functions, find_unseen, ties_of_data
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.tie_search import find_ties

GRAPH = CausalGraph(
    [
        Factor("a"),
        Factor("b"),
        Factor("c"),
        Factor("lit", "binary"),
        Factor("hue", "categorical", categories=("red", "green", "blue")),
    ],
    [("a", "c"), ("b", "c")],
)


def table(count: int = 600) -> Tensor:
    torch.manual_seed(0)
    lit, hue = (torch.rand(count, 1) < 0.4).float(), torch.randint(3, (count, 1)) / 2
    return torch.cat([torch.rand(count, 3), lit, hue], dim=1)


def found(graph: CausalGraph, factors: Tensor, **more: Tensor) -> dict[str, tuple[str, ...]]:
    return {each.effect: each.causes for each in find_functions(graph, factors, **more)}


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (
            PendulumScene,
            {"shadow_length": ("angle", "light"), "shadow_position": ("angle", "light")},
        ),
        (FlowScene, {"water_flow": ("water_height", "hole")}),
        (SunlightScene, {"shadow_area": ("shape", "size", "light_position")}),
    ],
)
def test_published_tables(scene: type, expected: dict[str, tuple[str, ...]]) -> None:
    made = scene()
    grid = made.published_grid()
    factors = (grid[0] if isinstance(grid, tuple) else grid).float()
    factors = factors[torch.randperm(len(factors))[:3000]]
    assert found(made.graph, factors) == expected


def test_random_mechanisms_determine_nothing() -> None:
    scene = CartoonFaces()
    factors, _ = scene.sample(2000, torch.Generator().manual_seed(0))
    assert not find_functions(scene.graph, factors)
    assert not find_ties(scene.graph, factors).all
    assert not find_unseen(scene.graph, factors)
    assert not find_functions(GRAPH, table()) and not find_unseen(GRAPH, table())


def test_noise_is_no_function() -> None:
    z = table()
    z[:, 2] = 0.6 * z[:, 0] * z[:, 1] + 0.2
    assert found(GRAPH, z) == {"c": ("a", "b")}
    z[:, 2] += 0.2 * (torch.rand(len(z)) - 0.5)
    assert found(GRAPH, z) == {}


def test_discrete_factors_are_functions_exactly_or_not_at_all() -> None:
    z = table()
    z[:, 3] = (z[:, 4] == 0.5).float()
    assert found(GRAPH, z) == {"lit": ("hue",)}
    z[0, 3] = 1 - z[0, 3]
    assert found(GRAPH, z) == {}, "one row disagrees"
    edge = table()
    edge[:, 3] = (edge[:, 0] > 0.5).float()
    assert found(GRAPH, edge) == {"lit": ("a",)}, "but near the edge no neighbour can tell"


def test_effects_follow_when_their_cause_is_set() -> None:
    """a is a function of c as c is of a; only c is left behind when it is set alone."""
    z = table()
    z[:, 2] = (2 * z[:, 0] - 1) ** 2
    z[:, 1] = (z[:, 0] > 0.5).float()
    assert "a" not in found(GRAPH, z) and found(GRAPH, z)["c"] == ("a",)


def test_what_was_set_somewhere_is_taught() -> None:
    z = table()
    z[:, 2] = 0.6 * z[:, 0] * z[:, 1] + 0.2
    was_set = torch.zeros_like(z, dtype=torch.bool)
    was_set[3, 2] = True
    assert found(GRAPH, z, intervened=was_set) == {}


def test_few_rows_and_missing_ones() -> None:
    z = table()
    z[:, 2] = 0.6 * z[:, 0] * z[:, 1] + 0.2
    assert found(GRAPH, z[:30]) == {}
    z[::2, 0] = torch.nan
    assert found(GRAPH, z) == {"c": ("a", "b")}


def test_pairs_of_values_that_no_row_has() -> None:
    z = table()
    both = (z[:, 3] == 1) & (z[:, 4] == 1)
    z[both, 3] = 0
    low = z[:, 0] < z[:, 0].quantile(1 / 3)
    z[low, 3] = 0
    unseen = {(each.factors, each.values) for each in find_unseen(GRAPH, z)}
    assert (("lit", "hue"), ("1", "blue")) in unseen
    assert any(pair == ("a", "lit") and values[1] == "1" for pair, values in unseen)
    expected = [each.expected for each in find_unseen(GRAPH, z)]
    assert expected == sorted(expected, reverse=True) and min(expected) >= 5
    assert not find_unseen(GRAPH, z[:20]), "of so few rows chance leaves most out"


def test_ties_are_not_told_again() -> None:
    z = table()
    z[:, 3] = z[:, 0].round()
    z[:, 1] = 1 - z[:, 0]
    ties = find_ties(GRAPH, z)
    assert [(tie.first, tie.second) for tie in ties.all] == [("a", "b")]
    functions = find_functions(GRAPH, z, ties=ties)
    assert all(each.effect not in ("a", "b") for each in functions)
    assert all(each.factors != ("a", "b") for each in find_unseen(GRAPH, z, ties))


def test_a_data_module_tells_ties_and_functions_of_its_training_rows() -> None:
    scene = SunlightScene()
    grid = scene.published_grid().float()
    rows = grid[torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))[:3000]]
    data = SimpleNamespace(factors_of=lambda split: rows if split == "train" else rows[:1])
    ties = ties_of_data(scene.graph, data)
    assert ties is not None
    assert [(tie.first, tie.second) for tie in ties.all] == [("light_colour", "floor_colour")]
    assert [function.effect for function in ties.functions] == ["shadow_area"]
    hinted = ties.without(["floor_colour", "shadow_area"])
    assert not hinted.all and not hinted.functions
    assert ties_of_data(scene.graph, SimpleNamespace()) is None
