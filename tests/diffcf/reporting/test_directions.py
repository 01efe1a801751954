"""The table of four directions: ranks of methods, by what was measured."""

from __future__ import annotations

from pathlib import Path

from made_results import record, write

from diffcf.reporting.directions import directions_table
from diffcf.reporting.results import find_results
from diffcf.reporting.tables import ComparisonTable


def made(folder: Path) -> ComparisonTable | None:
    return directions_table("toy", find_results(folder)["toy"])


def ranks(table: ComparisonTable, direction: str) -> dict[str, float]:
    place = table.headings.index(direction) - 1
    return {row.title: float(row.cells[place].text) for row in table.rows}


def test_methods_are_ranked_in_each_direction_and_over_all(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01, composition__1=0.0, dci__disentanglement=0.9))
    write(tmp_path, record("toy", "peer", 0, 0.02, composition__1=0.0, dci__disentanglement=0.95))
    write(tmp_path, record("toy", "third", 0, 0.03, composition__1=0.1))
    write(tmp_path, record("toy", "ours_variant", 0, 0.001, composition__1=0.0))
    table = made(tmp_path)
    assert table is not None
    # Equal values share a rank, and what a method lacks is last.
    assert ranks(table, "rank, reconstruction") == {"ours": 1.5, "peer": 1.5, "third": 3.0}
    assert ranks(table, "rank, disentanglement") == {"ours": 2.0, "peer": 1.0, "third": 3.0}
    # ACM of roots and of leaves; PSNR is the same of all.
    assert ranks(table, "rank, counterfactuals") == {"ours": 1.3, "peer": 2.0, "third": 2.7}
    assert ranks(table, "mean rank") == {"ours": 1.6, "peer": 1.5, "third": 2.9}
    assert "rank, discovery" not in table.headings
    best = {
        row.title for row in table.rows if row.cells[table.headings.index("mean rank") - 1].best
    }
    assert best == {"peer"}


def test_the_graph_counts_where_methods_learned_one(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01, graph__shd=1.0))
    write(tmp_path, record("toy", "peer", 0, 0.01, graph__shd=3.0))
    table = made(tmp_path)
    assert table is not None
    assert ranks(table, "rank, discovery") == {"ours": 1.0, "peer": 2.0}


def test_a_method_alone_has_no_rank(tmp_path) -> None:
    write(tmp_path, record("toy", "ours", 0, 0.01))
    assert made(tmp_path) is None
