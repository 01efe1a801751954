"""Changed and torn results files: tables, or one error that names the file."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import grid, record, write
from mutations import FUZZ, mutated

from diffcf.commands.tables import tables
from diffcf.io.errors import ResultsError
from diffcf.reporting.comparison import ablation_table
from diffcf.reporting.results import read_json, read_record
from diffcf.reporting.single import results_table

RESULTS = Path(__file__).parents[3] / "experiments/results"
REAL = sorted(RESULTS.glob("*/ours/0.json"))[0]
SAFE = {"benchmark": {"dataset": "toy", "method": "b", "seed": 0}}


@pytest.fixture(scope="module")
def real() -> dict[str, Any]:
    """A real record, without the hundreds of metrics that are all alike."""
    whole = json.loads(REAL.read_text())
    shown = ("acm/", "psnr", "cost/", "ssim", "exact/acm/roots", "do_nothing/acm")
    kept = {k: v for k, v in whole["metrics"].items() if k.startswith(shown) and k.count("/") < 3}
    config = {"trainer": whole["provenance"]["config"]["trainer"]}
    provenance = {**whole["provenance"], "config": config}
    return {**whole, "metrics": kept, "intervals": {}, "lambda_t": {}, "provenance": provenance}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


def made(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def told(folder: Path, path: Path) -> None:
    """All tables, or an error that names the file."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            tables(["--results", str(folder), "--out", str(folder.parent / "tables")])
    except ResultsError as error:
        assert path.name in str(error) and "\n" not in str(error)


@FUZZ
@given(data=st.data())
def test_a_changed_record_makes_a_table_or_names_its_file(real, folder: Path, data) -> None:
    path = made(folder / "changed.json", data.draw(mutated(real)))
    try:
        results_table([path])
    except ResultsError as error:
        assert "changed.json" in str(error) and "\n" not in str(error)


@settings(FUZZ, max_examples=15)
@given(data=st.data())
def test_a_changed_record_among_others(folder: Path, data) -> None:
    """The whole command, with figures; the changed file lies where the benchmark puts it."""
    shutil.rmtree(folder / "grid", ignore_errors=True)
    grid(folder / "grid")
    changed = data.draw(mutated(record("toy", "b", 0, 0.02)))
    path = write(folder / "grid", record("toy", "b", 0, 0.02))
    told(folder / "grid", made(path, changed))


@FUZZ
@given(data=st.data())
def test_a_changed_ablation_makes_a_table_or_names_its_file(folder: Path, data) -> None:
    whole = json.loads((RESULTS / "pendulum/ablation.json").read_text())
    rows = dict(list(whole["rows"].items())[:3])
    path = made(folder / "ablation.json", data.draw(mutated({**whole, "rows": rows})))
    try:
        ablation_table("toy", path)
    except ResultsError as error:
        assert "ablation.json" in str(error) and "\n" not in str(error)


def test_a_torn_record_names_its_file(folder: Path) -> None:
    text = REAL.read_bytes()
    for end in range(0, len(text) - 2, len(text) // 60):
        (folder / "torn.json").write_bytes(text[:end])
        with pytest.raises(ResultsError, match=r"torn\.json is not JSON"):
            read_record(folder / "torn.json")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, "é".encode("utf-16"), b"\xff\xfe", ""],
    ids=["lists", "mappings", "digits", "utf-16", "bytes", "nothing"],
)
def test_what_is_no_json_names_its_file(folder: Path, text: str | bytes) -> None:
    path = folder / "broken.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ResultsError, match=r"broken\.json is not JSON"):
        read_json(path, {}, "diffcf test")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e16", "true", '"0.1"', "null", "[]"])
def test_a_metric_is_a_finite_number(folder: Path, value: str) -> None:
    text = json.dumps(record("toy", "b", 0, 0.125)).replace("0.125", value)
    (folder / "odd.json").write_text(text)
    with pytest.raises(ResultsError, match=r"odd\.json .* metrics holds 'acm/a', which is no"):
        read_record(folder / "odd.json")


def test_a_broken_figure_is_drawn_again(folder: Path, capsys) -> None:
    results = grid(folder / "figure")
    tables(["--results", str(results)])
    (results / "tables/toy/quality_cost.png").write_bytes(b"torn")
    with pytest.raises(SystemExit):
        tables(["--results", str(results), "--check"])
    assert "quality_cost.png" in capsys.readouterr().err
