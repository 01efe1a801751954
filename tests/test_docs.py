"""Tables in docs/ are those that the commands wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("docs/sampling.md", "pendulum/steps.md"),
        ("docs/sampling.md", "pendulum/anchor.md"),
        ("docs/speed.md", "bench/cpu.md"),
    ],
)
def test_a_page_shows_the_recorded_table(page: str, table: str) -> None:
    recorded = (ROOT / "experiments/results" / table).read_text().strip()
    assert recorded in (ROOT / page).read_text(), f"copy {table} into {page}"
