"""A graph learned from the table alone: by the function, ``diffcf graph`` and ``known-edges``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import ROOT
from torch import Tensor

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.structure import is_acyclic
from diffcf.commands.known_edges import known_edges_parser, some_edges
from diffcf.commands.main import main
from diffcf.io.errors import DataError, SettingsError
from diffcf.training.graph_learning import GraphLearning, learn_graph

FACTORS = [Factor("a"), Factor("b"), Factor("c")]
QUICK = GraphLearning(steps=150, batch_size=128, learning_rate=1e-2)


def table(count: int = 1024) -> Tensor:
    """a causes b strongly; c is alone."""
    torch.manual_seed(0)
    a = torch.rand(count)
    return torch.stack([a, 0.7 * a + 0.1 * torch.rand(count), torch.rand(count)], dim=1)


def test_it_finds_what_belongs_together_and_leaves_out_the_rest() -> None:
    graph = CausalGraph(FACTORS, [("c", "b")], (), [("b", "a")])
    nscm = learn_graph(graph, table(), QUICK)
    assert not nscm.training and nscm.learned().edges == (("a", "b"),), "edges are ignored"
    missing = table()
    missing[::2, 2] = torch.nan
    assert learn_graph(graph, missing, QUICK).learned().edges == (("a", "b"),)


def test_no_single_edge_more_or_less_is_worth_its_cost() -> None:
    torch.manual_seed(0)
    a, c = torch.rand(2, 1024)
    # Of two causes each explains little without the other.
    rows = torch.stack([a, (a - c).abs() + 0.02 * torch.rand(1024), c], dim=1)
    learning = GraphLearning(steps=150, batch_size=128, learning_rate=1e-2, sparsity=0.05)
    for known in ((), [("a", "b")]):
        nscm = learn_graph(CausalGraph(FACTORS, (), known), rows, learning)
        found = nscm.adjacency

        def score(adjacency: Tensor) -> Tensor:
            inputs = nscm.equations.inputs(rows, adjacency)  # noqa: B023
            return nscm.equations.log_prob(rows, inputs).mean() - 0.05 * adjacency.sum()  # noqa: B023

        for effect, cause in (~torch.eye(3, dtype=torch.bool)).nonzero().tolist():
            other = found.clone()
            other[effect, cause] ^= True
            if is_acyclic(other) and (cause, effect) != (0, 1):
                sure = 0.1 if other[effect, cause] else 0.0  # left out in training: three times
                assert score(other) < score(found) + sure + 0.02, (effect, cause)


def test_known_edges_are_kept_whatever_they_gain() -> None:
    graph = CausalGraph(FACTORS, (), [("c", "a")], [("b", "a")])
    assert set(learn_graph(graph, table(), QUICK).learned().edges) == {("c", "a"), ("a", "b")}


def test_a_seed_learns_the_same_again_and_disturbs_nobody() -> None:
    brief, rows = GraphLearning(steps=5, seed=3), table()
    state = torch.random.get_rng_state()
    first, second = (learn_graph(CausalGraph(FACTORS), rows, brief) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_settings_and_tables_that_cannot_be() -> None:
    for wrong in ({"steps": 0}, {"batch_size": 0}, {"sparsity": -1.0}, {"acyclicity": torch.nan}):
        with pytest.raises(SettingsError):
            GraphLearning(**wrong)
    with pytest.raises(DataError, match="No training row has a value of every factor"):
        learn_graph(CausalGraph(FACTORS), torch.full((4, 3), torch.nan), QUICK)


def test_the_graph_command_learns_and_writes_what_it_found(tmp_path: Path, capsys) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(
        "class_path: data_modules.PendulumDataModule\n"
        "init_args: {image_size: 32, train_size: 100, val_size: 4, test_size: 4}\n"
    )
    out = tmp_path / "learned.yaml"
    command = ["graph", str(config), "--learn", "true", "--learning.steps", "3"]
    assert main([*command, "--out", str(out)]) == 0
    graph = CausalGraph.from_yaml(out)
    assert graph.names == ("angle", "light", "shadow_length", "shadow_position")
    assert main([*command, "--out", str(out)]) == 2, "nothing finished is written over"
    assert "exists already" in capsys.readouterr().err
    alone = str(ROOT / "experiments/graphs/celeba_smile.yaml")
    assert main(["graph", alone, "--learn", "true"]) == 2
    assert "is a graph without a table" in capsys.readouterr().err


# --- known edges ---


def test_shares_are_of_the_true_edges() -> None:
    graph = CausalGraph(FACTORS, [("a", "b"), ("b", "c"), ("a", "c")])
    counts = [len(some_edges(graph, share, 0)) for share in (0.0, 0.2, 0.5, 1.0)]
    assert counts == [0, 1, 2, 3]
    assert set(some_edges(graph, 1.0, 1)) == set(graph.edges)
    assert len({tuple(some_edges(graph, 0.5, seed)) for seed in range(9)}) > 1


def test_the_command_measures_every_share_and_seed(tmp_path: Path, capsys) -> None:
    config = ROOT / "experiments/ablations/known_edges/pendulum.yaml"
    command = ["known-edges", "--config", str(config), "--out", str(tmp_path / "out")]
    command += ["--learning.steps", "2", "--seeds", "[0, 1]", "--data.train_size", "100"]
    assert main(command) == 0
    record = json.loads((tmp_path / "out/known_edges.json").read_text())
    assert [(row["share"], row["seed"]) for row in record["rows"]] == [
        (share, seed) for share in (0.0, 0.5, 1.0) for seed in (0, 1)
    ]
    assert [len(row["known"]) for row in record["rows"]] == [0, 0, 2, 2, 4, 4]
    assert record["provenance"]["table"] == 100
    assert (tmp_path / "out/known_edges.md").read_text() in capsys.readouterr().out
    assert main(command) == 2
    assert main([*command, "--out", str(tmp_path / "no"), "--shares", "[2]"]) == 2
    assert "lies in [0, 1], not at 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "experiments/ablations/known_edges").glob("*.yaml")),
    ids=lambda path: path.stem,
)
def test_each_grid_is_valid(path: Path) -> None:
    parser = known_edges_parser()
    built = parser.instantiate_classes(parser.parse_args(["--config", str(path)]))
    assert built.data is not None and len(built.shares) > 1
    assert str(path.relative_to(ROOT)) in path.read_text(), "it says how to run it"
