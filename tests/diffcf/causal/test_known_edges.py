"""Graphs known in part: learning fills in the free edges only, and the result is acyclic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nscms import CONTINUOUS, make

from diffcf.causal.curves import edge_curves
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.causal.structure import EdgeGates, acyclicity, is_acyclic, strongest_dag
from diffcf.commands.graph import as_dot
from diffcf.commands.main import main
from diffcf.io.errors import GraphError
from diffcf.reporting.graph import graph_figure
from diffcf.training.datasets import load_data

NAMES = tuple("abcd")
FACTORS = [Factor(name) for name in NAMES]
PAIRS = [(cause, effect) for cause in NAMES for effect in NAMES if cause != effect]


@st.composite
def partly_known(draw: st.DrawFn) -> CausalGraph:
    """Some edges in a random causal order that are known, and others that are forbidden."""
    order = draw(st.permutations(NAMES))
    forward = [pair for pair in PAIRS if order.index(pair[0]) < order.index(pair[1])]
    known = draw(st.lists(st.sampled_from(forward), unique=True))
    others = [pair for pair in PAIRS if pair not in known]
    return CausalGraph(FACTORS, (), known, draw(st.lists(st.sampled_from(others), unique=True)))


@settings(max_examples=60, deadline=None)
@given(partly_known(), st.integers(0, 2**32))
def test_what_is_learned_keeps_to_what_is_known(graph: CausalGraph, seed: int) -> None:
    torch.manual_seed(seed)
    nscm = NSCM(graph, hidden=[4], learned_graph=True)
    gates = nscm.gates
    assert gates is not None
    with torch.no_grad():
        gates.logits.normal_(std=20.0)  # certain enough to tie with what is known
    learned = nscm.learned()  # of which a cycle would be an error
    assert set(graph.known) <= set(learned.edges)
    assert not set(graph.forbidden) & set(learned.edges)
    assert (learned.known, learned.forbidden) == (graph.known, graph.forbidden)
    for draw in gates.sample(20):
        assert (draw[graph.known_adjacency] == 1).all()
        assert (draw[~graph.free & ~graph.known_adjacency] == 0).all()


@settings(max_examples=60, deadline=None)
@given(partly_known())
def test_an_edge_is_free_unless_it_is_known_forbidden_or_closes_a_cycle(graph: CausalGraph) -> None:
    for cause, effect in PAIRS:
        free = bool(graph.free[graph.column(effect), graph.column(cause)])
        listed = (cause, effect) in (*graph.known, *graph.forbidden)
        try:
            CausalGraph(FACTORS, () if listed else [(cause, effect)], graph.known)
            closes = False
        except GraphError:
            closes = True
        assert free == (not listed and not closes)
    assert not graph.free.diagonal().any()


def test_only_free_edges_have_a_parameter() -> None:
    graph = CausalGraph(FACTORS, (), [("a", "b"), ("b", "c")], [("a", "d")])
    # 12 pairs less 2 known, 1 forbidden and 3 that turn known ones round: b a, c b, c a
    assert EdgeGates(graph).logits.numel() == 6
    everything = CausalGraph(FACTORS, (), [p for p in PAIRS if p[0] < p[1]])
    nscm = NSCM(everything, hidden=[4], learned_graph=True)
    assert nscm.gates is not None and nscm.gates.logits.numel() == 0
    optimizer = torch.optim.AdamW(nscm.parameters(), 1e-2)
    nscm.loss(torch.rand(16, 4))["nscm"].backward()
    optimizer.step()
    assert set(nscm.learned().edges) == set(everything.known)


def test_the_penalty_sees_known_edges() -> None:
    """b → c and c → a are free, and only together with the known a → b a cycle."""
    others = [pair for pair in PAIRS if pair not in (("a", "b"), ("b", "c"), ("c", "a"))]
    graphs = [
        CausalGraph(FACTORS, (), [("a", "b")], others),
        CausalGraph(FACTORS, (), (), [("a", "b"), *others]),
    ]
    penalties = []
    for graph in graphs:
        gates = EdgeGates(graph)
        with torch.no_grad():
            gates.logits.fill_(3.0)
        penalties.append(gates.penalties()["acyclicity"].item())
    assert penalties[0] > 0.1 and penalties[1] == pytest.approx(0, abs=1e-5)
    assert acyclicity(EdgeGates(graphs[0]).probabilities()) > 0


def test_learning_decides_what_is_free_and_no_more() -> None:
    """a and b explain each other equally well: what is known decides which way round."""
    torch.manual_seed(0)
    a = torch.rand(1024)
    z = torch.stack([a, 0.7 * a + 0.3 * torch.rand(1024), torch.rand(1024)], dim=1)
    factors = [Factor("a"), Factor("b"), Factor("c")]
    wanted = {
        ("a", "b"): CausalGraph(factors, (), (), [("b", "a")]),
        ("b", "a"): CausalGraph(factors, (), [("b", "a")]),
    }
    for edge, graph in wanted.items():
        nscm = NSCM(graph, hidden=(16,), learned_graph=True)
        optimizer = torch.optim.Adam(nscm.parameters(), lr=3e-2)
        for _ in range(150):
            losses = nscm.loss(z)
            optimizer.zero_grad()
            total = losses["nscm"] + 0.02 * losses["sparsity"] + 0.1 * losses["acyclicity"]
            total.backward()
            optimizer.step()
        assert nscm.eval().learned().edges == (edge,)


def test_known_and_forbidden_edges_survive_files(tmp_path: Path) -> None:
    graph = CausalGraph(FACTORS, [("c", "d")], [("a", "b")], [("b", "c")])
    assert graph.edges == (("c", "d"), ("a", "b")), "what is known is there"
    assert CausalGraph.from_dict(graph.to_dict()) == graph
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph.to_dict()))
    assert CausalGraph.from_yaml(path) == graph
    assert graph != CausalGraph(FACTORS, graph.edges), "they count"
    assert "known" not in CausalGraph(FACTORS, graph.edges).to_dict()


def test_they_may_stand_in_an_experiment(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(
        "class_path: data_modules.FactorTableDataModule\n"
        "init_args:\n  images: none\n  table: none.csv\n"
        "  graph: {factors: {on: {}, b: {}}, known: [[on, b]], forbidden: [[b, on]]}\n"
    )
    graph = load_data(config).graph
    assert graph.known == graph.edges == (("on", "b"),) and graph.forbidden == (("b", "on"),)


@pytest.mark.parametrize(
    ("make_graph", "said"),
    [
        (lambda: CausalGraph(FACTORS, (), [("a", "b"), ("b", "a")]), "known edges close a cycle"),
        (lambda: CausalGraph(FACTORS, [("a", "b")], [("b", "a")]), "The graph has a cycle"),
        (lambda: CausalGraph(FACTORS, (), [("a", "b")], [("a", "b")]), "both known and forbidden"),
        (lambda: CausalGraph(FACTORS, [("a", "b")], (), [("a", "b")]), "edge of the graph and for"),
        (lambda: CausalGraph(FACTORS, (), [("a", "z")]), "Known edge a → z names the unknown"),
        (lambda: CausalGraph(FACTORS, (), (), [("z", "a")]), "Forbidden edge z → a names the unk"),
        (lambda: CausalGraph(FACTORS, (), (), [("a", "a")]), "cannot cause itself"),
        (lambda: CausalGraph(FACTORS, (), [("a", "b")] * 2), "Known edge a → b is declared twice"),
        (
            lambda: CausalGraph.from_dict({"factors": {"a": {}}, "known": "a"}),
            "'known' must be a list of pairs",
        ),
    ],
)
def test_mistakes_are_one_sentence(make_graph: Callable[[], object], said: str) -> None:
    with pytest.raises(GraphError, match=said) as raised:
        make_graph()
    assert "\n" not in str(raised.value)


def test_pictures_and_text_say_which_edges_were_known(tmp_path: Path, capsys) -> None:
    given = CausalGraph(CONTINUOUS.factors, (), [("angle", "length")], [("length", "position")])
    nscm = make(given, learned_graph=True)
    curves = {(edge.cause, edge.effect): edge for edge in edge_curves(nscm, draws=64)}
    assert curves["angle", "length"].probability is None
    assert all(edge.probability for names, edge in curves.items() if names != ("angle", "length"))
    figure = graph_figure(nscm.learned(), list(curves.values()))
    beside = [text.get_text() for text in figure.axes[0].texts]
    assert sum("known" in text for text in beside) == 1
    assert 'label="known"' in as_dot(given)
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(given.to_dict()))
    assert main(["graph", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "Known: angle → length" in printed and "Forbidden: length → position" in printed


@pytest.mark.parametrize("partly", [False, True])
def test_chosen_edges_are_those_of_the_graph(partly: bool) -> None:
    names = [Factor(name) for name in "abc"]
    graph = CausalGraph(names, (), [("a", "b")] if partly else ())
    gates = EdgeGates(graph)
    torch.manual_seed(0)
    torch.nn.init.normal_(gates.logits)
    before = gates.probabilities()
    wanted = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    gates.choose(wanted)
    assert torch.equal(strongest_dag(gates.probabilities(), known=gates.known), wanted)
    free = graph.free
    torch.testing.assert_close(
        (gates.probabilities() - 0.5).abs()[free], (before - 0.5).abs()[free], atol=1e-3, rtol=0
    )


def test_a_cycle_of_edges_is_seen() -> None:
    chain = torch.zeros(4, 4, dtype=torch.bool)
    chain[1, 0] = chain[2, 1] = chain[3, 2] = chain[3, 0] = True
    assert is_acyclic(chain) and is_acyclic(torch.zeros(3, 3))
    for effect, cause in ((0, 3), (0, 1), (2, 2)):
        closed = chain.clone()
        closed[effect, cause] = True
        assert not is_acyclic(closed)
    assert chain.sum() == 4, "it is looked at, not changed"
