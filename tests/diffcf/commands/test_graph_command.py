"""``diffcf graph``: the layout, what the mechanisms are said to be, and what is written."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_nscms import CATEGORICAL, CONTINUOUS, make
from stirring import stir

from data_modules.scenes.shadow.scene import SunlightScene
from diffcf.causal.curves import edge_curves, prior_noise
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.commands.graph import as_dot
from diffcf.commands.main import main
from diffcf.methods import write_weights
from diffcf.methods.engine import Sampling
from diffcf.methods.peers.causal_vae import CausalVAE
from diffcf.reporting.graph import graph_figure
from diffcf.reporting.layout import curve, layered

ROOT = Path(__file__).parents[3]
LINE = CausalGraph([Factor("a"), Factor("b"), Factor("c")], [("a", "b"), ("b", "c"), ("a", "c")])

# --- the layout ---


def crossings(layout) -> int:
    """Pairs of straight pieces of edges that cross."""
    pieces = [p for path in layout.paths.values() for p in itertools.pairwise(path)]
    return sum(
        one[0][1] == other[0][1] and (one[0][0] - other[0][0]) * (one[1][0] - other[1][0]) < -1e-9
        for one, other in itertools.combinations(pieces, 2)
    )


@pytest.mark.parametrize("seed", range(20))
def test_layers_nodes_and_paths(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"n{k}" for k in range(draw.randint(1, 12))]
    edges = [(a, b) for a, b in itertools.combinations(names, 2) if draw.random() < 0.25]
    draw.shuffle(names)
    layout = layered(names, edges)
    assert layout == layered(names, edges), "the same every time"
    assert set(layout.nodes) == set(names) and set(layout.paths) == set(edges)
    for (cause, effect), path in layout.paths.items():
        assert (path[0], path[-1]) == (layout.nodes[cause], layout.nodes[effect])
        assert [y for _, y in path] == [path[0][1] + k for k in range(len(path))], "downward"
        for x, y in path[1:-1]:
            for at in layout.nodes.values():
                assert at[1] != y or abs(at[0] - x) > 0.99, "no edge runs through a node"
    for one, other in itertools.combinations(layout.nodes.values(), 2):
        assert one[1] != other[1] or abs(one[0] - other[0]) > 0.99, "no two nodes overlap"
    roots = [n for n in names if not any(e == n for _, e in edges)]
    assert all(layout.nodes[n][1] == 0 for n in roots)
    xs = [x for x, _ in layout.nodes.values()]
    assert min(xs) >= 0 and max(xs) <= layout.width


def test_crossings_are_removed() -> None:
    names = [*"abc", *"xyz"]
    assert crossings(layered(names, [("a", "z"), ("b", "y"), ("c", "x")])) == 0
    assert crossings(layered([*"ab", *"xy"], list(itertools.product("ab", "xy")))) == 1


def test_an_edge_past_a_layer_has_a_place_there() -> None:
    layout = layered(LINE.names, LINE.edges)
    assert [y for _, y in layout.paths["a", "c"]] == [0, 1, 2]
    (first, second), end = curve(layout.paths["a", "c"])[0][:2], layout.paths["a", "c"][1]
    assert first == (layout.nodes["a"][0], 0.5) and second == (end[0], 0.5)


def test_a_cycle_has_no_layers() -> None:
    with pytest.raises(ValueError, match="cycle"):
        layered(["a", "b"], [("a", "b"), ("b", "a")])


# --- mechanisms ---


@pytest.fixture(scope="module")
def trained() -> NSCM:
    """a and b are even on [0, 1]; c = 0.8 a + 0.1, whatever b; d = 1 where b > 0.5."""
    graph = CausalGraph(
        [Factor("a"), Factor("b"), Factor("c", low=10.0, high=20.0), Factor("d", "binary")],
        [("a", "c"), ("b", "c"), ("b", "d")],
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    nscm = NSCM(graph, hidden=(32, 32))
    optimizer = torch.optim.AdamW(nscm.parameters(), 1e-2)
    for _ in range(200):
        z = torch.rand(256, 4)
        z[:, 2] = 0.8 * z[:, 0] + 0.1 + 0.01 * torch.randn(256)
        z[:, 3] = (z[:, 1] > 0.5).float()
        optimizer.zero_grad()
        nscm.loss(z)["nscm"].backward()
        optimizer.step()
    return nscm.eval()


def test_known_mechanisms_are_told(trained: NSCM) -> None:
    curves = {(edge.cause, edge.effect): edge for edge in edge_curves(trained)}
    assert set(curves) == {("a", "c"), ("b", "c"), ("b", "d")}
    rising = curves["a", "c"]
    assert rising.strength == pytest.approx(0.8, abs=0.08)
    middle = rising.response[:, 1]
    assert (middle - (0.8 * rising.values + 0.1)).abs().max() < 0.06
    assert (rising.response[:, 0] <= middle).all() and (middle <= rising.response[:, 2]).all()
    assert curves["b", "c"].strength < 0.06 and curves["b", "c"].greatest < 0.08
    step = curves["b", "d"]
    assert step.response.shape == (33, 2) and step.response.sum(1).allclose(torch.ones(33))
    assert step.response[0, 1] < 0.1 and step.response[-1, 1] > 0.9
    assert step.strength > 0.9 and step.probability is None


def test_an_effect_that_bends_is_told_by_its_extremes() -> None:
    """c = |2 a - 1|: its ends are alike, its middle is not."""
    graph = CausalGraph([Factor("a"), Factor("c")], [("a", "c")])
    torch.manual_seed(0)
    nscm = NSCM(graph, hidden=(32, 32))
    optimizer = torch.optim.AdamW(nscm.parameters(), 1e-2)
    for _ in range(150):
        a = torch.rand(256)
        optimizer.zero_grad()
        nscm.loss(torch.stack([a, (2 * a - 1).abs()], 1))["nscm"].backward()
        optimizer.step()
    (edge,) = edge_curves(nscm.eval())
    assert edge.strength < 0.15 and edge.greatest > 0.85


def test_total_effects_pass_through_what_lies_between() -> None:
    """a moves c only through b."""
    chain = CausalGraph(LINE.factors, [("a", "b"), ("b", "c")])
    nscm = make(chain)
    both = CausalGraph(LINE.factors, LINE.edges)
    longer = NSCM(both, hidden=(16, 16)).eval()
    with torch.no_grad():  # a → c is there, and its weights are nothing
        longer.load_state_dict(nscm.state_dict())
        longer.equations.location.weights[0][2, 0] = 0
        longer.equations.shape.weights[0][2, 0] = 0
    edges = {(edge.cause, edge.effect): edge for edge in edge_curves(longer)}
    assert edges["a", "c"].strength > 0.01
    response = edges["a", "c"].response
    assert (response - response[0]).abs().max() < 1e-6, "its own mechanism does not see a"


def test_categories_and_learned_graphs() -> None:
    nscm = make(CATEGORICAL, learned_graph=True)
    with torch.no_grad():
        nscm.gates.logits.copy_(torch.where(CATEGORICAL.adjacency, 2.0, -3.0))
    edges = {(edge.cause, edge.effect): edge for edge in edge_curves(nscm, draws=128)}
    assert set(edges) == set(CATEGORICAL.edges)
    assert edges["shape", "size"].response.shape == (3, 3)
    assert edges["lit", "hue"].response.shape == (2, 2)
    assert 0 <= edges["lit", "hue"].strength <= 1
    assert edges["lit", "hue"].probability == pytest.approx(0.8808, abs=1e-4)


def test_noise_is_the_priors() -> None:
    noise = prior_noise(CATEGORICAL, 20_000, torch.Generator().manual_seed(0))
    assert noise.shape == (20_000, 7)  # 3 of shape, size, lit, 2 of hue
    assert noise[:, 0].mean() == pytest.approx(0.5772, abs=0.03)  # Gumbel
    assert noise[:, 3].std() == pytest.approx(1.0, abs=0.03)  # normal
    assert noise[:, 4].std() == pytest.approx(1.8138, abs=0.05)  # logistic


# --- pictures and text ---


def test_pictures_are_drawn_of_any_graph(trained: NSCM, tmp_path: Path) -> None:
    shadow = SunlightScene().graph
    for nscm in (trained, make(CATEGORICAL), make(shadow)):
        figure = graph_figure(nscm.graph, edge_curves(nscm, draws=64), [nscm.graph.leaves[0]])
        texts = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert set(nscm.graph.names) - {nscm.graph.leaves[0]} <= set(texts)
        assert f"do({nscm.graph.leaves[0]})" in texts
        assert len(figure.axes) == 1 + len(nscm.graph.edges)
        figure.savefig(tmp_path / "a.png", dpi=40)
        assert Image.open(tmp_path / "a.png").size[0] > 100


def test_dot_names_nodes_edges_and_cuts() -> None:
    text = as_dot(CONTINUOUS, do=["length"])
    assert '"angle" -> "length" [style=dashed];' in text
    assert '"angle" -> "position";' in text and '"length" [penwidth=2];' in text


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "dot"])
def test_the_command_writes_what_its_ending_says(tmp_path: Path, capsys, ending: str) -> None:
    out = tmp_path / f"graph.{ending}"
    source = str(ROOT / "experiments/graphs/celeba_smile.yaml")
    assert main(["graph", source, "--out", str(out), "--do", "Smiling"]) == 0
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "dot": b"digraph"}
    assert out.read_bytes().startswith(begins[ending])
    assert "no trained mechanisms" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_pendulum_is_told(tmp_path: Path, capsys) -> None:
    assert main(["graph", "pendulum", "--out", str(tmp_path / "p.png")]) == 0
    told = capsys.readouterr().out
    for text in ("angle → shadow_length", "low to high", "shadow_position by light", "median"):
        assert text in told
    assert Image.open(tmp_path / "p.png").size[0] > 1000


def test_an_experiment_shows_its_graph(capsys) -> None:
    assert main(["graph", str(ROOT / "experiments/pendulum.yaml")]) == 0
    assert "shadow_length" in capsys.readouterr().out


def test_a_method_without_an_nscm_shows_its_graph(tmp_path: Path, capsys, graph) -> None:
    model = CausalVAE(graph)
    stir(model)
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(steps=1), tmp_path / "a.safetensors")
    assert main(["graph", str(tmp_path / "a.safetensors")]) == 0
    assert "CausalVAE keeps its mechanisms in latents" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["penduluum"], "There are no weights"),
        (["none.yaml"], "does not exist"),
        (["pendulum", "--do", "moon"], "Unknown factor 'moon'"),
        (["pendulum", "--out", "a.gif"], "ends in none of"),
    ],
)
def test_mistakes_are_one_line(options: list[str], said: str, capsys) -> None:
    assert main(["graph", *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
