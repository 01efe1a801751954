from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from processes import in_two

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.nscm import NSCM
from diffcf.evaluation.metrics.graph_distance import (
    EdgeF1,
    StructuralHammingDistance,
    edge_f1,
    learned_adjacency,
    structural_hamming_distance,
)


def _adjacency(*edges: str) -> torch.Tensor:
    """Of edges such as ``"ab"``, a causes b, among four factors."""
    return CausalGraph([Factor(name) for name in "abcd"], edges).adjacency


TRUE = _adjacency("ab", "bc", "ac")
CASES = [
    # edges, SHD, F1
    (("ab", "bc", "ac"), 0, 1.0),
    (("ab", "bc"), 1, 4 / 5),
    (("ab", "bc", "ac", "cd"), 1, 6 / 7),
    (("ba", "bc", "ac"), 1, 4 / 6),
    (("ba", "cd"), 4, 0.0),  # one reversed, one extra, two missing
    ((), 3, 0.0),
]


@pytest.mark.parametrize(("edges", "distance", "f1"), CASES)
def test_hand_made_graphs(edges: tuple[str, ...], distance: int, f1: float) -> None:
    learned = _adjacency(*edges)
    assert structural_hamming_distance(learned, TRUE) == distance
    assert structural_hamming_distance(TRUE, learned) == distance, "a distance is symmetric"
    assert edge_f1(learned, TRUE) == pytest.approx(f1)


def test_empty_graphs_agree() -> None:
    assert structural_hamming_distance(_adjacency(), _adjacency()) == 0
    assert edge_f1(_adjacency(), _adjacency()) == 1
    assert edge_f1(TRUE, _adjacency()) == 0


def test_an_edge_both_ways_is_one_too_many() -> None:
    both = TRUE | TRUE.T
    assert structural_hamming_distance(both, TRUE) == 3
    assert structural_hamming_distance(both, torch.zeros_like(both)) == 6


def test_the_classes_average_over_graphs() -> None:
    distance, f1 = StructuralHammingDistance(), EdgeF1()
    for edges, _, _ in CASES:
        distance.update(_adjacency(*edges), TRUE)
        f1.update(_adjacency(*edges), TRUE)
    assert distance.compute().item() == pytest.approx(sum(case[1] for case in CASES) / len(CASES))
    assert f1.compute().item() == pytest.approx(sum(case[2] for case in CASES) / len(CASES))


def test_two_processes_agree_with_one(tmp_path) -> None:
    alone = StructuralHammingDistance()
    for edges, _, _ in CASES[:5]:
        alone.update(_adjacency(*edges), TRUE)
    in_two(_share, tmp_path)
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(shared, alone.compute())


def _share(rank: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    distance = StructuralHammingDistance()
    for edges, _, _ in CASES[:5][rank::2]:
        distance.update(_adjacency(*edges), TRUE)
    torch.save(distance.compute(), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_only_a_learned_graph_is_there_to_be_measured(graph: CausalGraph) -> None:
    assert learned_adjacency(NSCM(graph, hidden=[8])) is None
    nscm = NSCM(graph, hidden=[8], learned_graph=True)
    with torch.no_grad():
        nscm.gates.logits.copy_(10.0 * graph.adjacency - 5.0)
    learned = learned_adjacency(nscm)
    assert learned is not None
    assert structural_hamming_distance(learned, graph.adjacency) == 0


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="StructuralHammingDistance has seen no graph"):
        StructuralHammingDistance().compute()
    with pytest.raises(ValueError, match=r"one size, got \[4, 4\] and \[3, 3\]"):
        edge_f1(TRUE, TRUE[:3, :3])
    with pytest.raises(ValueError, match=r"square .* got \[3, 4\] and \[3, 4\]"):
        edge_f1(TRUE[:3], TRUE[:3])
    with pytest.raises(ValueError, match="threshold strengths of edges first"):
        edge_f1(TRUE.float(), TRUE)
    with pytest.raises(ValueError, match="clear the diagonal"):
        structural_hamming_distance(TRUE | torch.eye(4, dtype=torch.bool), TRUE)
