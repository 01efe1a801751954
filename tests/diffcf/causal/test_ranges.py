"""Ranges, scales and levels: what is printed of a factor can be set again, whatever its units."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import FUZZ
from small_nscms import CONTINUOUS, abduct, make

from data_modules.scenes.faces.scene import CartoonFaces
from data_modules.scenes.flow import FlowScene
from data_modules.scenes.pendulum import PendulumScene
from data_modules.scenes.shadow.scene import SunlightScene
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Intervention, parse_do
from diffcf.causal.units import scaled_do
from diffcf.io.errors import GraphError, InterventionError

AREA = Factor("area", low=1.0, high=1000.0, scale="log")
SONS = Factor("sons", "integer", -2, 4)
COUNT = Factor("count", "integer", 1, 20_000, scale="log")
ODD = CausalGraph(
    [
        AREA,
        SONS,
        COUNT,
        Factor("year", low=1e6, high=1e6 + 1),
        Factor("small", low=-3e-7, high=1.234567e-3),
        Factor("third", low=1 / 3, high=12.576432),
        Factor("smile", "binary"),
        Factor("shape", "categorical", categories=("cube", "1", "a b")),
    ],
)
GRAPHS = {
    "odd": ODD,
    "pendulum": PendulumScene().graph,
    "flow": FlowScene().graph,
    "faces": CartoonFaces("smile").graph,
    "shadow": SunlightScene().graph,
}
each_graph = pytest.mark.parametrize("name", GRAPHS)
near_the_range = st.one_of(
    st.sampled_from([0.0, 1.0, -1.9e-8, 1 + 6e-8, 1e-9, 1 - 1e-9]),
    st.floats(-0.25, 1.25, width=32),
)


@each_graph
@settings(FUZZ, max_examples=40)
@given(data=st.data())
def test_what_is_printed_can_be_given_back(name: str, data: Any) -> None:
    """A reading or prediction anywhere, clipped and written, is a value of an intervention."""
    graph = GRAPHS[name]
    drawn = data.draw(st.lists(near_the_range, min_size=len(graph), max_size=len(graph)))
    factors, _ = graph.clip(graph.decode(graph.encode(torch.tensor([drawn], dtype=torch.float32))))
    shown = graph.whole(factors)
    for factor, written, scaled in zip(
        graph.factors, graph.native_rows(factors)[0], shown[0].tolist(), strict=True
    ):
        text = written if isinstance(written, str) else repr(written)
        for given_text in (text, factor.text(scaled)):
            do = scaled_do(parse_do([f"{factor.name}={given_text}"], graph), graph, "native")
            values = Intervention.from_do(do, graph, 1).values[0, graph.column(factor.name)]
            assert 0 <= values <= 1
            if given_text is text:
                assert values == pytest.approx(scaled, abs=2e-6)
        values = Intervention.from_do({factor.name: scaled}, graph, 1).values
        assert values[0, graph.column(factor.name)] == pytest.approx(scaled, abs=1e-6)


@each_graph
def test_the_ends_that_are_printed_can_be_set(name: str) -> None:
    graph = GRAPHS[name]
    for factor in graph.factors:
        if factor.continuous:
            for end, scaled in zip(factor.domain.split(" … "), (0, 1), strict=True):
                do = scaled_do(parse_do([f"{factor.name}={end}"], graph), graph, "native")
                found = Intervention.from_do(do, graph, 1).values[0, graph.column(factor.name)]
                assert found == pytest.approx(scaled, abs=0.02)


def test_values_of_float32_are_within_the_range_they_came_from() -> None:
    graph = ODD
    low, high = graph.low, graph.high  # rounded
    for column, factor in enumerate(graph.factors):
        for end in (low[column], high[column]):
            if not factor.categories:
                do = scaled_do({factor.name: end}, graph, "native")
                Intervention.from_do(do, graph, 1)


def test_rounding_is_the_end_and_more_is_an_error() -> None:
    do = Intervention.from_do({"angle": torch.tensor([-1.9e-8, 1 + 1e-7])}, CONTINUOUS, 2)
    assert do.values[:, 0].tolist() == [0, 1]
    for value in (-1e-4, 1.0001):
        with pytest.raises(InterventionError, match="outside the factor's range"):
            Intervention.from_do({"angle": value}, CONTINUOUS, 1)


def test_a_scene_scales_its_own_factors_into_the_range() -> None:
    for graph, grid in ((scene.graph, scene.published_grid()[0]) for scene in (PendulumScene(),)):
        assert graph.names and grid.min() == 0 and grid.max() == 1


def test_effects_follow_from_causes_within_their_range() -> None:
    """A chain whose middle is predicted beyond its range: its effect is that of the end."""
    graph = CausalGraph([Factor(n) for n in "abc"], [("a", "b"), ("b", "c")])
    nscm = make(graph, spread=4.0)
    z = torch.rand(200, 3)
    u, do = abduct(nscm, z), Intervention.from_do({"a": 1.0}, graph, 200)
    raw = nscm.predict(z, u, do.values, do.mask)
    beyond = graph.clip(raw)[1][:, 1]
    assert beyond.any()
    both = Intervention.from_do({"a": 1.0, "b": raw[:, 1].clamp(0, 1)}, graph, 200)
    pinned = nscm.predict(z, u, both.values, both.mask)
    torch.testing.assert_close(pinned[:, 2], raw[:, 2], atol=1e-6, rtol=0)


# --- scales and whole numbers ---


def test_a_log_scale_is_even_in_the_logarithm() -> None:
    assert [AREA.to_native(s) for s in (0.0, 1 / 3, 2 / 3, 1.0)] == pytest.approx([1, 10, 100, 1e3])
    assert AREA.to_scaled(10.0) == pytest.approx(1 / 3)
    assert AREA.to_scaled(0.0) == AREA.to_scaled(-5.0) == -math.inf
    graph = CausalGraph([AREA, Factor("plain", low=0.0, high=10.0)])
    native = torch.tensor([[10.0, 5.0], [0.0, 0.0]])
    scaled = graph.to_scaled(native)
    torch.testing.assert_close(scaled[0], torch.tensor([1 / 3, 0.5]))
    assert scaled[1, 0] == -math.inf and scaled[1, 1] == 0
    torch.testing.assert_close(graph.to_native(scaled)[0], native[0])
    with pytest.raises(InterventionError, match="outside the factor's range, 1 … 1000"):
        scaled_do({"area": -1.0}, graph, "native")


def test_integers_are_set_to_whole_numbers_and_shown_as_such() -> None:
    graph = CausalGraph([SONS, COUNT])
    assert (SONS.levels, COUNT.levels, AREA.levels) == (7, 20_000, None)
    for value in (-2, 0, 4, 3.0):
        do = scaled_do({"sons": value}, graph, "native")
        found = Intervention.from_do(do, graph, 1).values
        assert graph.native_rows(found)[0][0] == value
    for value in range(1, 20_001, 371):
        do = scaled_do({"count": value}, graph, "native")
        assert graph.native_rows(Intervention.from_do(do, graph, 1).values)[0][1] == value
    for wrong in (0.5, 3.99):
        with pytest.raises(InterventionError, match="whole numbers of -2 … 4"):
            Intervention.from_do(scaled_do({"sons": wrong}, graph, "native"), graph, 1)
    row = graph.native_rows(torch.tensor([[0.51, 0.5]]))[0]
    assert row == [1, 141] and all(isinstance(number, int) for number in row)
    assert SONS.text(0.51) == "1" and SONS.domain == "-2 … 4"


@settings(FUZZ, max_examples=60)
@given(st.sampled_from([SONS, COUNT, AREA, *GRAPHS["odd"].factors]), st.floats(-0.5, 1.5, width=32))
def test_what_is_snapped_is_the_nearest_value_that_can_be_set(factor: Factor, value: float) -> None:
    graph = CausalGraph([factor])
    snapped = factor.snap(torch.tensor(value))
    again = Intervention.from_do({factor.name: snapped}, graph, 1).values[0, 0]
    assert again == pytest.approx(float(snapped), abs=1e-6)
    if factor.levels is None:
        assert snapped == min(max(torch.tensor(value), 0), 1)
    else:
        native = factor.to_native(float(snapped))
        assert native == pytest.approx(round(native), abs=0.05)


def test_mechanisms_take_integers_for_continuous() -> None:
    graph = CausalGraph([SONS, AREA], [("sons", "area")])
    nscm = make(graph)
    z = torch.rand(20, 2)
    torch.testing.assert_close(nscm.decode(nscm.abduct(z)), z, atol=1e-5, rtol=0)
    assert not graph.discrete.any()


def test_descriptions_keep_kind_and_scale() -> None:
    assert CausalGraph.from_dict(ODD.to_dict()) == ODD
    assert CONTINUOUS.factors[0].to_spec() == {"kind": "continuous", "range": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"kind": "integer", "low": 0.5, "high": 3}, "ends must be whole numbers"),
        ({"kind": "integer", "low": 0, "high": 1e7}, "more than 1,000,000 whole numbers"),
        ({"scale": "log", "low": 0.0, "high": 3}, "low end must be above 0"),
        ({"scale": "log", "low": -1.0, "high": 3}, "low end must be above 0"),
        ({"scale": "log", "low": 1e-60, "high": 3}, "low end must be above 0"),
        ({"scale": "root"}, "has scale 'root': use one of linear, log"),
        ({"kind": "binary", "scale": "log"}, "which has no scale"),
    ],
)
def test_what_no_factor_can_be(settings_: dict, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        Factor("a", **settings_)


@pytest.mark.parametrize(
    ("factor", "scaled", "text"),
    [
        (Factor("a"), 0.5, "0.50"),
        (Factor("a", high=12.576), 1.0, "12.57"),
        (Factor("a", low=-0.6289, high=1), 0.0, "-0.62"),
        (Factor("a", high=0.001), 0.5, "0.00050"),
        (Factor("a", low=1e6, high=1e6 + 1), 0.5, "1000000.50"),
        (AREA, 0.67, "102"),
        (AREA, 0.1, "2.00"),
    ],
)
def test_numbers_for_people_stay_in_the_range(factor: Factor, scaled: float, text: str) -> None:
    assert factor.text(scaled) == text
