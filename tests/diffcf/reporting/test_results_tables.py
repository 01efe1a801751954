from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffcf.commands.main import main
from diffcf.io.errors import ResultsError
from diffcf.reporting.single import results_table

ROOT = Path(__file__).parents[3]


def _record(acm: float) -> dict:
    metrics = {"acm/step_growth": 1.2, "acm/null": 0.001, "psnr/reconstruction": 45.0}
    for name in ("light", "roots", "leaves"):
        metrics |= {f"acm/{name}": acm, f"do_nothing/acm/{name}": 0.2, f"psnr/{name}": 36.0}
    metrics |= {"acm/light/light": acm, "reversibility": 0.01, "do_nothing/reversibility": 0.0}
    training = {"seconds": 600.0, "device": "a processor"}
    sampling = {"guidance": None, "steps": 30}
    origin = {"training": training, "sampling": sampling}
    return {"metrics": metrics, "images": 256, "provenance": origin}


def test_seeds_are_averaged_and_their_range_is_shown(tmp_path) -> None:
    for seed, acm in enumerate((0.01, 0.02)):
        (tmp_path / f"{seed}.json").write_text(json.dumps(_record(acm)))
    text = results_table([tmp_path / "0.json", tmp_path / "1.json"])
    row = "| do(light) | 0.0150 [0.0100, 0.0200] | 0.2000 [0.2000, 0.2000] | 36.0 [36.0, 36.0] |"
    assert row in text
    assert "| **ours** | 0.0150 [0.0100, 0.0200] |" in text
    assert "| *do nothing* | 0.2000 [0.2000, 0.2000] |" in text
    assert "2 seed(s), 256 held-out images each; no guidance, 30 steps" in text
    assert "10.0 and 10.0 minutes on a processor" in text


def test_a_sequence_is_told_by_its_growth_or_where_nothing_could_grow_by_its_end(tmp_path) -> None:
    record, file = _record(0.01), tmp_path / "0.json"
    record["protocol"] = {"steps": 3}
    record["metrics"] |= {"acm/step_1": 0.0, "acm/step_2": 0.01, "acm/step_3": 0.02}
    file.write_text(json.dumps(record))
    assert "ACM at the last step over the first: 1.20." in results_table([file])
    del record["metrics"]["acm/step_growth"]
    file.write_text(json.dumps(record))
    assert "ACM at the last step: 0.0200." in results_table([file])


def test_files_that_are_no_results_are_named(tmp_path, capsys) -> None:
    with pytest.raises(ResultsError, match="does not exist"):
        results_table([tmp_path / "none.json"])
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ResultsError, match="is not JSON"):
        results_table([tmp_path / "text.json"])
    (tmp_path / "other.json").write_text("[]")
    assert main(["table", str(tmp_path / "other.json")]) == 2
    assert "was not written by `diffcf test`" in capsys.readouterr().err


def test_results_hold_no_machine_paths() -> None:
    for path in (ROOT / "experiments/results").rglob("*.json"):
        text = path.read_text()
        assert "/work/" not in text and "/home/" not in text and "/root/" not in text, path
