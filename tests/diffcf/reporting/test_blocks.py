"""What a marked block of a text can show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_results import grid, record

from diffcf.commands.tables import all_tables, text_blocks
from diffcf.io.errors import ResultsError
from diffcf.reporting.results import find_results
from diffcf.reporting.single import results_table


@pytest.fixture
def results(tmp_path: Path) -> Path:
    grid(tmp_path)
    (tmp_path / "toy/main.md").write_text("| typed |\n")
    (tmp_path / "toy/steps.md").write_text("| steps |\n")
    for folder, protocol in (("toy", {"min_change": 0.05}), ("old", {})):
        (tmp_path / folder).mkdir(exist_ok=True)
        text = json.dumps(record("toy", "ours", 0, 0.02) | {"protocol": protocol})
        (tmp_path / folder / "seed0.json").write_text(text)
    return tmp_path


def test_blocks_are_compared_own_or_recorded(results: Path) -> None:
    blocks = text_blocks(results, all_tables(results, find_results(results)))
    assert "| ours |" in blocks["toy", "main"](), "what is computed wins over what lies there"
    assert blocks["toy", "steps"]() == "| steps |\n"
    assert blocks["toy", "own"]() == results_table([results / "toy/seed0.json"])
    assert ("old", "own") in blocks


def test_the_benchmark_has_our_own_results_where_no_others_are(results: Path) -> None:
    (results / "toy/seed0.json").unlink()
    own = text_blocks(results, {})["toy", "own"]()
    assert own == results_table([results / f"toy/ours/{seed}.json" for seed in range(2)])


def test_the_summary_has_a_row_for_each_dataset_of_the_present_protocol(results: Path) -> None:
    rows = text_blocks(results, {})["all", "own"]().splitlines()[2:]
    assert len(rows) == 1 and rows[0].startswith("| toy | ")
    assert "–" in rows[0], "what was not measured is no number"


def test_a_file_that_is_no_result_is_named(results: Path) -> None:
    (results / "toy/seed1.json").write_text("{}")
    with pytest.raises(ResultsError, match="seed1"):
        text_blocks(results, {})
