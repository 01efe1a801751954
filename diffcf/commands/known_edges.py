"""How near a learned graph comes to the true one, by how much of that is known beforehand.

``diffcf known-edges --config experiments/ablations/known_edges/pendulum.yaml`` learns the graph of
a dataset from its table alone, for every share of its edges that are known and every seed, and
writes ``known_edges.json`` and ``known_edges.md``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from rich.progress import track
from torch import Generator, Tensor

from diffcf.causal import CausalGraph
from diffcf.commands.arguments import Seed
from diffcf.evaluation.metrics.graph_distance import edge_f1, structural_hamming_distance
from diffcf.io import SettingsError, check_new, device_name, versions, write_json, write_text
from diffcf.reporting import markdown
from diffcf.training import GraphLearning, learn_graph

RESULTS = "known_edges.json"


def known_edges_parser() -> ArgumentParser:
    about = "Distance of learned graphs, by how many edges are known."
    parser = ArgumentParser(prog="diffcf known-edges", description=about)
    parser.add_argument("--config", action="config", help="YAML file with the arguments below.")
    data = "Whose training table is learned from, and whose graph is the true one."
    parser.add_argument("--data", type=LightningDataModule, help=data)
    shares = "Shares of the true edges that are known, drawn anew by each seed."
    parser.add_argument("--shares", type=list[float], default=[0.0, 0.5, 1.0], help=shares)
    parser.add_argument("--seeds", type=list[Seed], default=[0, 1, 2], help="One training each.")
    learning = "How edges are learned; its seed is replaced by --seeds."
    parser.add_argument("--learning", type=GraphLearning, default=GraphLearning(), help=learning)
    out = Path("runs/known_edges")
    parser.add_argument("--out", type=Path, default=out, help="Folder to write.")
    return parser


def known_edges(args: Sequence[str]) -> None:
    """Command ``diffcf known-edges``; ``--help`` lists the arguments.

    Raises:
        SettingsError: for a share outside [0, 1].
        OutputError: when the folder has such results already.
    """
    parser = known_edges_parser()
    built = parser.instantiate_classes(parser.parse_args(list(args)))
    if built.data is None or not built.shares or not built.seeds:
        parser.error("name --data, --shares and --seeds, or a --config that does")
    for share in built.shares:
        if not 0 <= share <= 1:
            raise SettingsError(f"A share of edges lies in [0, 1], not at {share}.")
    check_new(built.out / RESULTS)
    wall, processor = time.perf_counter(), time.process_time()
    built.data.prepare_data()
    built.data.setup()
    factors = built.data.factors_of("train")
    rows = measure(built.data.graph, factors, built.shares, built.seeds, built.learning)
    record = {
        "rows": rows,
        "provenance": {
            "data": type(built.data).__name__,
            "table": len(factors),
            "true": [list(edge) for edge in built.data.graph.edges],
            "learning": {k: v for k, v in asdict(built.learning).items() if k != "seed"},
            "device": device_name(factors.device),
            "seconds": round(time.perf_counter() - wall, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            "versions": versions(),
        },
    }
    text = known_edges_markdown(rows)
    write_json(record, built.out / RESULTS)
    write_text(text, built.out / Path(RESULTS).with_suffix(".md"))
    print(text)


def measure(
    true: CausalGraph,
    factors: Tensor,
    shares: Sequence[float],
    seeds: Sequence[int],
    learning: GraphLearning,
) -> list[dict[str, Any]]:
    """A row for each share and seed: what was known, what was learned, and how far it is off."""
    cells = [(share, seed) for share in shares for seed in seeds]
    rows = []
    for share, seed in track(cells, description="known edges"):
        known = some_edges(true, share, seed)
        graph = CausalGraph(true.factors, true.edges, known)
        nscm = learn_graph(graph, factors, replace(learning, seed=seed))
        found = nscm.learned()
        rows.append(
            {
                "share": share,
                "seed": seed,
                "known": [list(edge) for edge in known],
                "learned": [list(edge) for edge in found.edges if edge not in known],
                "shd": structural_hamming_distance(found.adjacency, true.adjacency),
                "edge_f1": edge_f1(found.adjacency, true.adjacency),
            }
        )
    return rows


def some_edges(graph: CausalGraph, share: float, seed: int) -> list[tuple[str, str]]:
    """A random share of the edges, to the nearest number of them, halves up."""
    order = torch.randperm(len(graph.edges), generator=Generator().manual_seed(seed))
    return [graph.edges[place] for place in order[: int(share * len(order) + 0.5)].tolist()]


def known_edges_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown with a line for each share: distances of the seeds, and means."""
    lines = []
    for share in dict.fromkeys(row["share"] for row in rows):
        same = [row for row in rows if row["share"] == share]
        distances = [row["shd"] for row in same]
        f1 = [row["edge_f1"] for row in same]
        number = f"{len(same[0]['known'])} ({share:.0%})"
        each = ", ".join(map(str, distances))
        means = (f"{sum(values) / len(values):.2f}" for values in (distances, f1))
        lines.append([number, each, *means])
    return markdown(["known edges", "SHD of each seed", "SHD ↓", "edge F1 ↑"], lines)
