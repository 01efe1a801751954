"""Ties: which names the data leave tied, which interventions that leaves undetermined."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_modules.scenes import FlowScene, PendulumScene, PointlightScene, SunlightScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.tie_search import find_ties
from diffcf.causal.ties import Function, Ties
from diffcf.io.errors import GraphError

SHADES = ("red", "green", "blue")
GRAPH = CausalGraph(
    [
        Factor("a"),
        Factor("b"),
        Factor("lit", "binary"),
        Factor("hue", "categorical", categories=SHADES),
        Factor("floor", "categorical", categories=SHADES),
    ],
    [("a", "b"), ("hue", "floor")],
)


def pairs(ties: Ties) -> set[tuple[str, str]]:
    return {(tie.first, tie.second) for tie in ties.all}


def table(count: int = 400, seed: int = 0) -> Tensor:
    """Independent columns of :data:`GRAPH`."""
    torch.manual_seed(seed)
    hues = torch.randint(3, (count, 2)) / 2
    lit = (torch.rand(count, 1) < 0.4).float()
    return torch.cat([torch.rand(count, 2), lit, hues], dim=1)


def tied(count: int = 400) -> Tensor:
    """b falls with a; floor is a relabelled hue."""
    z = table(count)
    z[:, 1] = 1 - z[:, 0] ** 3
    z[:, 4] = torch.tensor([0.5, 1.0, 0.0])[(2 * z[:, 3]).long()]
    return z


# --- finding them ---


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (SunlightScene, {("light_colour", "floor_colour")}),
        (PendulumScene, set()),
        (FlowScene, set()),
        (
            PointlightScene,
            {
                ("light_position", "spot_position"),
                ("light_colour", "floor_colour"),
                ("light_colour", "spot_colour"),
                ("floor_colour", "spot_colour"),
            },
        ),
    ],
)
def test_published_tables(scene: type, expected: set[tuple[str, str]]) -> None:
    made = scene()
    grid = made.published_grid()
    factors = grid[0] if isinstance(grid, tuple) else grid
    assert pairs(find_ties(made.graph, factors.float())) == expected


def test_relabelled_and_bent_columns_are_tied() -> None:
    for rows in (tied(), tied(4000)):
        assert pairs(find_ties(GRAPH, rows)) == {("hue", "floor"), ("a", "b")}
    noisy = tied()
    noisy[:, 1] = 0.1 + 0.8 * noisy[:, 0] + 0.01 * torch.rand(400)
    assert ("a", "b") in pairs(find_ties(GRAPH, noisy)), "up to rounding"
    noisy[:, 1] += 0.1 * (torch.rand(400) - 0.5)
    assert ("a", "b") not in pairs(find_ties(GRAPH, noisy))
    assert not pairs(find_ties(GRAPH, table()))


def test_a_number_may_be_tied_to_a_category() -> None:
    z = table()
    z[:, 0] = torch.tensor([0.8, 0.1, 0.4])[(2 * z[:, 3]).long()]
    ties = find_ties(GRAPH, z)
    assert pairs(ties) == {("a", "hue")}
    assert not ties.off(z).any()
    z[:, 0] += 0.2 * (torch.rand(len(z)) - 0.5)
    assert not pairs(find_ties(GRAPH, z)), "a number of its own within each category"


@pytest.mark.parametrize("row", [0, 399])
def test_one_row_that_disagrees_unties(row: int) -> None:
    z = tied()
    z[row, 4] = (z[row, 4] + 0.5) % 1.5
    z[row, 1] = (z[row, 1] + 0.5) % 1
    assert not pairs(find_ties(GRAPH, z))


def test_few_rows_and_constants_are_tied_to_nothing() -> None:
    assert not pairs(find_ties(GRAPH, tied(5)))
    z = tied()
    z[:, :2] = 0.3
    z[:, 3:] = 0.5
    assert not pairs(find_ties(GRAPH, z))
    assert not pairs(find_ties(GRAPH, z[:0]))


def test_two_rare_marks_in_the_same_rows_may_be_chance() -> None:
    graph = CausalGraph([Factor("x", "binary"), Factor("y", "binary")])
    z = torch.zeros(400, 2)
    z[7] = 1
    assert not pairs(find_ties(graph, z)), "one row of 400"
    z[::40] = 1
    assert pairs(find_ties(graph, z)) == {("x", "y")}


def test_missing_labels_are_no_evidence() -> None:
    z = tied()
    z[::3, 4] = torch.nan
    z[1::3, 0] = torch.nan
    assert pairs(find_ties(GRAPH, z)) == {("a", "b"), ("hue", "floor")}


def test_rows_in_which_one_was_set_untie() -> None:
    z, was_set = tied(), torch.zeros(400, 5, dtype=torch.bool)
    z[5, 4] = (z[5, 4] + 0.5) % 1.5
    was_set[5, 4] = True
    z[6, 1] = (z[6, 1] + 0.5) % 1
    assert pairs(find_ties(GRAPH, z, was_set)) == set(), "the latter disagrees unset, too"
    was_set[6, 1] = True
    assert pairs(find_ties(GRAPH, z, was_set)) == set()
    same = tied()
    was_set[5:9] = True  # what somebody set agrees with what was there
    assert pairs(find_ties(GRAPH, same, was_set)) == {("a", "b"), ("hue", "floor")}


def test_a_hint_unties() -> None:
    assert pairs(find_ties(GRAPH, tied()).without({"floor"})) == {("a", "b")}


# --- interventions ---

TIES = find_ties(GRAPH, tied())


def moved(**values: float) -> tuple[Tensor, Tensor]:
    """A factual row, and it with some values."""
    factual = tied()[:1]
    target = factual.clone()
    for name, value in values.items():
        target[:, GRAPH.column(name)] = value
    return factual, target


def names(flags: Tensor) -> set[str]:
    return {name for name, flag in zip(GRAPH.names, flags[0].tolist(), strict=True) if flag}


def test_what_leaves_its_partner_is_undetermined() -> None:
    factual, _ = moved()
    hue, floor = (float(factual[0, GRAPH.column(name)]) for name in ("hue", "floor"))
    other = (hue + 0.5) % 1.5
    its_floor = {0.0: 0.5, 0.5: 1.0, 1.0: 0.0}[other]
    assert names(TIES.undetermined(*moved(floor=(floor + 0.5) % 1.5))) == {"floor"}
    assert names(TIES.undetermined(*moved(hue=other))) == {"hue"}, "whose effect did not follow"
    assert not names(TIES.undetermined(*moved(hue=other, floor=its_floor))), "it follows"
    both = moved(hue=other, floor=floor if floor != its_floor else hue)
    assert names(TIES.undetermined(*both)) == {"hue"}
    assert not names(TIES.undetermined(*moved(lit=1.0)))
    assert not names(TIES.undetermined(*moved()))


def test_a_world_that_was_untied_already_is_left_alone() -> None:
    factual, target = moved()
    factual[:, 4] = (factual[:, 4] + 0.5) % 1.5
    target[:, 4] = (target[:, 4] + 1.0) % 1.5
    assert not names(TIES.undetermined(factual, target))


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_each_image_is_judged_by_itself(a: float, value: float) -> None:
    rows = tied()[:3].clone()
    rows[:, 0], rows[:, 1] = a, 1 - a**3
    target = rows.clone()
    target[1, 1] = value  # b alone
    target[2, 0], target[2, 1] = value, 1 - value**3  # both, together
    flags = TIES.undetermined(rows, target)
    assert not flags[[0, 2]].any()
    if abs(value - (1 - a**3)) < 0.04:
        assert not flags[1].any(), "within a causal model's errors"
    curve = torch.linspace(0, 1, 400)
    apart = torch.stack([curve - a, 1 - curve**3 - value]).abs().amax(dim=0)
    if apart.min() > 0.06:
        assert flags[1].tolist() == [False, True, False, False, False]


def test_they_survive_a_description() -> None:
    again = Ties.from_spec(GRAPH, TIES.to_spec())
    assert again.all == TIES.all and again.partners("floor") == ("hue",)
    assert len(Ties.from_spec(GRAPH, [])) == 0


@pytest.mark.parametrize(
    "spec",
    [
        {},
        ["hue"],
        [{"factors": ["hue", "floor"]}],
        [{"factors": ["hue"], "points": [[0, 0]]}],
        [{"factors": ["hue", "flor"], "points": [[0, 0]]}],
        [{"factors": ["hue", "floor"], "points": []}],
        [{"factors": ["hue", "floor"], "points": [[0, "x"]]}],
        [{"factors": ["hue", "floor"], "points": [[0, float("nan")]]}],
        [{"factors": ["hue", "floor"], "points": [[0, 0]] * 5000}],
        [{"factors": ["hue", 3], "points": [[0, 0]]}],
        [{"effect": "a", "causes": [], "error": 0.0}],
        [{"effect": "a", "causes": ["none"], "error": 0.0}],
        [{"effect": "a", "causes": ["b"], "error": "little"}],
        [{"effect": 1, "causes": ["b"], "error": 0.0}],
    ],
)
def test_other_descriptions_are_refused(spec: object) -> None:
    with pytest.raises(GraphError):
        Ties.from_spec(GRAPH, spec)


# --- functions ---


def test_an_effect_set_against_its_causes_is_undetermined() -> None:
    ties = Ties(GRAPH, [], [Function("b", ("a", "hue"), 0.001)])
    b = GRAPH.column("b")
    factual = torch.full((3, len(GRAPH)), 0.5)
    target, followed = factual.clone(), factual.clone()
    target[:, b] = torch.tensor([0.9, 0.9, 0.52])
    followed[1, b] = 0.88  # as the causes that were set with it have it, to within its error
    told = ties.undetermined(factual, target, followed)
    assert told.nonzero().tolist() == [[0, b]]
    assert not ties.undetermined(factual, target).any(), "no effect was set"
    assert "a and hue" in ties.sentence("b")


def test_functions_travel_and_can_be_left_out() -> None:
    ties = Ties(GRAPH, TIES.all, [Function("b", ("a", "hue"), 0.001)])
    again = Ties.from_spec(GRAPH, ties.to_spec())
    assert again.functions == ties.functions and again.all == TIES.all
    assert again.without(["a"]).functions == ties.functions, "a hint on a cause teaches no effect"
    assert again.without(["b"]).functions == () == again.without_functions().functions
    assert again.without_functions().all == TIES.all
