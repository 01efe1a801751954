"""CausalGraph: structure, units, text, and a clear sentence for every mistake."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.io.errors import GraphError

EDGES = (("a", "b"), ("b", "c"), ("a", "c"), ("d", "c"))


@pytest.fixture
def graph() -> CausalGraph:
    # declared out of causal order on purpose; e is isolated
    factors = [
        Factor("c", low=-2.0, high=6.0),
        Factor("b", "binary"),
        Factor("a", low=10.0, high=20.0),
        Factor("d"),
        Factor("e"),
    ]
    return CausalGraph(factors, EDGES)


# --- structure ---


def test_order_puts_causes_first(graph: CausalGraph) -> None:
    assert sorted(graph.order) == sorted(graph.names)
    for cause, effect in EDGES:
        assert graph.order.index(cause) < graph.order.index(effect)


def test_relatives(graph: CausalGraph) -> None:
    assert graph.parents("c") == ("b", "a", "d")
    assert graph.children("a") == ("b", "c")
    assert graph.descendants("a") == {"b", "c"}
    assert graph.descendants("b") == {"c"}
    assert graph.descendants("c") == frozenset()
    assert graph.roots == ("a", "d")
    assert graph.leaves == ("c", "e")


def test_descendants_follow_long_chains() -> None:
    names = [f"n{i}" for i in range(20)]
    chain = CausalGraph([Factor(n) for n in names], list(itertools.pairwise(names)))
    assert chain.descendants("n0") == set(names[1:])
    assert chain.order == tuple(names)


def test_adjacency_rows_are_effects(graph: CausalGraph) -> None:
    adjacency = graph.adjacency
    assert adjacency.dtype == torch.bool
    assert adjacency.sum() == len(EDGES)
    for cause, effect in EDGES:
        assert adjacency[graph.column(effect), graph.column(cause)]


def test_equality_ignores_the_order_of_edges(graph: CausalGraph) -> None:
    same = CausalGraph(graph.factors, EDGES[::-1])
    assert same == graph
    assert hash(same) == hash(graph)
    assert graph != CausalGraph(graph.factors, EDGES[1:])
    assert graph != CausalGraph(graph.factors[::-1], EDGES)
    assert graph != "graph"


def test_repr_names_edges(graph: CausalGraph) -> None:
    assert "a → b" in repr(graph)
    assert "no edges" in repr(CausalGraph([Factor("a")]))
    assert len(graph) == 5


# --- units ---


def test_units_round_trip(graph: CausalGraph) -> None:
    assert graph.binary.tolist() == [False, True, False, False, False]
    scaled = torch.rand(64, 5, dtype=torch.float64) * 1.4 - 0.2
    native = graph.to_native(scaled)
    assert native.dtype == torch.float64
    torch.testing.assert_close(graph.to_scaled(native), scaled)
    torch.testing.assert_close(graph.to_native(graph.to_scaled(native)), native)


def test_units_of_the_ends(graph: CausalGraph) -> None:
    torch.testing.assert_close(graph.to_native(torch.zeros(5)), graph.low)
    torch.testing.assert_close(graph.to_native(torch.ones(2, 5))[1], graph.high)
    assert graph.to_scaled(torch.tensor([2.0, 1.0, 15.0, 0.5, 0.5])).tolist() == [
        0.5,
        1,
        0.5,
        0.5,
        0.5,
    ]


# --- text ---


def test_dict_round_trip(graph: CausalGraph) -> None:
    spec = graph.to_dict()
    assert CausalGraph.from_dict(spec) == graph
    assert list(spec["factors"]) == list(graph.names)


def test_yaml_round_trip(graph: CausalGraph, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph.to_dict(), sort_keys=False), encoding="utf-8")
    assert CausalGraph.from_yaml(path) == graph
    assert CausalGraph.from_yaml(str(path)).names == graph.names


def test_from_dict_fills_in_defaults() -> None:
    graph = CausalGraph.from_dict({"factors": {"a": None, "b": {"kind": "binary"}}})
    assert graph == CausalGraph([Factor("a"), Factor("b", "binary")])
    assert CausalGraph.from_dict({"factors": {"a": {}}, "edges": None}).edges == ()


# --- mistakes ---

AB = (Factor("a"), Factor("b"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Factor("no good"), r"'no good' is not usable"),
        (lambda: Factor(3), r"3 is not usable"),  # type: ignore[arg-type]
        (lambda: Factor("a", "ordinal"), r"'a' has kind 'ordinal': use one of continuous, binary"),
        (lambda: Factor("a", low=1.0, high=1.0), r"'a' has the empty range \[1.0, 1.0\]"),
        (lambda: Factor("a", low=float("nan")), r"'a' has the empty range"),
        (lambda: Factor("a", "binary", 0.0, 2.0), r"Factor 'a' takes the values 0 and 1"),
        (lambda: CausalGraph([]), r"no factors"),
        (lambda: CausalGraph([*AB, Factor("a")]), r"'a' is declared twice"),
        (lambda: CausalGraph(AB, [("a", "x")]), r"a → x names the unknown factor 'x'.*a, b"),
        (lambda: CausalGraph(AB, [("a", "a")]), r"'a' cannot cause itself"),
        (lambda: CausalGraph(AB, [("a", "b")] * 2), r"a → b is declared twice"),
        (lambda: CausalGraph(AB, [("a", "b"), ("b", "a")]), r"cycle, (a → b → a|b → a → b)"),
        (lambda: CausalGraph(AB).column("x"), r"Unknown factor 'x': the factors are a, b"),
        (lambda: CausalGraph(AB).parents("x"), r"Unknown factor 'x'"),
        (lambda: CausalGraph(AB).children("x"), r"Unknown factor 'x'"),
        (lambda: CausalGraph(AB).descendants("x"), r"Unknown factor 'x'"),
    ],
)
def test_mistakes_in_a_graph(make: Callable[[], object], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make()


def test_a_cycle_is_shown_in_causal_direction() -> None:
    factors = [Factor(n) for n in "abc"]
    edges = [("a", "b"), ("b", "c"), ("c", "a")]
    with pytest.raises(GraphError, match="cycle") as caught:
        CausalGraph(factors, edges)
    shown = str(caught.value).split("cycle, ")[1].split(":")[0].split(" → ")
    assert all(step in edges for step in itertools.pairwise(shown))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "needs a mapping 'factors'"),
        ({}, "needs a mapping 'factors'"),
        ({"factors": ["a"]}, "needs a mapping 'factors'"),
        ({"factors": {"a": {}}, "nodes": {}}, "Unknown graph key 'nodes'"),
        ({"factors": {"a": {}}, "edges": {"a": "b"}}, "must be a list of pairs"),
        ({"factors": {"a": {}, "b": {}}, "edges": ["ab"]}, "must be a list of pairs"),
        ({"factors": {"a": {}, "b": {}}, "edges": [["a"]]}, "must be a list of pairs"),
        ({"factors": {"a": {}, "b": {}}, "edges": [["a", "b", "c"]]}, "must be a list of pairs"),
        (
            {"factors": {"a": {"units": "m"}}},
            "'a' takes only 'kind', 'range', 'scale' and 'categories'",
        ),
        ({"factors": {"a": "binary"}}, "'a' takes only 'kind', 'range', 'scale' and 'categories'"),
        ({"factors": {"a": {"range": [0]}}}, r"'a' needs a range \[low, high\], got \[0\]"),
        ({"factors": {"a": {"range": 3}}}, r"'a' needs a range \[low, high\], got 3"),
        ({"factors": {"a": {"range": ["x", 1]}}}, "'a' needs a range"),
        ({"factors": {"a": {"range": [2, 1]}}}, "'a' has the empty range"),
    ],
)
def test_mistakes_in_a_description(spec: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        CausalGraph.from_dict(spec)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="does not exist: check the path"):
        CausalGraph.from_yaml(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("factors: [", encoding="utf-8")
    with pytest.raises(GraphError, match="not valid YAML"):
        CausalGraph.from_yaml(broken)
    broken.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(GraphError, match="not valid YAML"):
        CausalGraph.from_yaml(broken)
