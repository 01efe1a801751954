"""The bench's trainings: time to quality, rows of a step, and configs on top of an experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_runs import measure_least, tiny

from diffcf.commands.main import main
from diffcf.commands.speed import Row
from diffcf.commands.speed.quality import over_time
from diffcf.commands.speed.throughput import memory_by_size, training_steps
from diffcf.methods import DiffusionCounterfactuals

MEASURES = {
    "dispatch": ["operations"],
    "pipeline": ["loading", "rendering"],
    "sampling": ["guidance", "what_ifs", "batch_sizes", "formats", "starts"],
    "throughput": ["training_steps", "memory_by_size"],
    "training": ["steps", "memory"],
}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:
    """The quick preset in the working folder, measured as little as can be."""
    monkeypatch.chdir(tmp_path)
    path = tiny(tmp_path / "run", train_size=32, val_size=2, test_size=2)
    measure_least(path)
    return Path(path)


def written(config: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def without_looking(experiment: Path) -> Path:
    whole = yaml.safe_load(experiment.read_text())
    callbacks = whole["trainer"]["callbacks"]
    whole["trainer"]["callbacks"] = [
        c for c in callbacks if not c["class_path"].endswith("CounterfactualCallback")
    ]
    return written(whole, experiment.with_name("unseen.yaml"))


def rows_of(out: str, section: str) -> list[dict[str, Any]]:
    return json.loads(Path(out, "bench.json").read_text())["sections"][section]


# --- time to quality ---


def test_a_training_is_looked_at_over_its_minutes(experiment: Path) -> None:
    arguments = ["--only=quality", "--minutes=0.02", "--images=2"]
    assert main(["bench", str(experiment), *arguments, "--out=out"]) == 0
    rows = rows_of("out", "quality")
    titles = [row["what"].removesuffix(" minutes").split(" after ") for row in rows]
    assert [what for what, _ in titles] == ["ACM of roots", "ACM of leaves"] * (len(rows) // 2)
    times = [float(after) for _, after in titles[::2]]
    assert times == sorted(times) and len(times) >= 2 and 0 < times[0] < 0.02 <= times[-1]
    assert all(0 <= row["value"] <= 1 and row["unit"] == "of the range" for row in rows)
    assert Path("out/quality/last.ckpt").is_file()


def test_a_training_of_which_nothing_is_measured_says_so(
    experiment: Path, capsys: pytest.CaptureFixture
) -> None:
    nothing = "--trainer.callbacks.val_images=0"
    assert over_time([f"--config={experiment}", nothing], 0.005, Path("out")) == []
    assert "No validation measured a mismatch" in capsys.readouterr().out


def test_an_experiment_that_no_one_looks_at_is_refused_before_its_training(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(DiffusionCounterfactuals, "losses", None)
    path = without_looking(experiment)
    assert main(["bench", str(path), "--only=quality", "--images=2", "--out=out"]) == 2
    assert "has no CounterfactualCallback, which measures quality" in capsys.readouterr().err


def test_among_all_sections_it_is_left_out_there(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, names in MEASURES.items():
        for name in names:
            monkeypatch.setattr(f"diffcf.commands.speed.{module}.{name}", lambda *_: [])
    path = without_looking(experiment)
    assert main(["bench", str(path), "--images=2", "--out=out"]) == 0
    sections = json.loads(Path("out/bench.json").read_text())["sections"]
    assert len(sections) == 12 and "quality" not in sections


@pytest.mark.parametrize("taken", ["bench.json", "quality"])
def test_results_that_are_there_stay_and_nothing_is_measured(
    taken: str, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("diffcf.commands.speed.command.cli", None)
    Path("out", taken).mkdir(parents=True)
    assert main(["bench", str(experiment), "--out=out"]) == 2
    assert f"out/{taken} exists already" in capsys.readouterr().err


def test_minutes_are_positive(experiment: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["bench", str(experiment), "--minutes=0"])
    assert "minutes" in capsys.readouterr().err


# --- configs on top ---


def test_later_configs_win(experiment: Path) -> None:
    files = [
        written({"data": {"init_args": {"batch_size": size}}}, Path(f"{size}.yaml"))
        for size in (2, 4)
    ]
    measured = ["--only=memory", "--memory_steps=10", "--images=2"]
    on_top = [f"--config={file}" for file in files]
    assert main(["bench", str(experiment), *on_top, *measured, "--out=out"]) == 0
    assert rows_of("out", "memory")[0]["what"] == "peak memory, training, batch 4"
    settings = json.loads(Path("out/bench.json").read_text())["provenance"]["settings"]
    assert settings["config"] == "['2.yaml', '4.yaml']"


def test_a_config_that_is_not_there_is_one_sentence(
    experiment: Path, capsys: pytest.CaptureFixture
) -> None:
    there = written({}, Path("there.yaml"))
    on_top = [f"--config={there}", "--config=nowhere.yaml"]
    assert main(["bench", str(experiment), *on_top, "--only=step", "--out=out"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["diffcf: Config nowhere.yaml does not exist: check the path."]
    assert not Path("out").exists()


# --- steps ---


def rows(model: DiffusionCounterfactuals, batch: dict, compiled: bool) -> dict[str, Row]:
    found = training_steps(model, batch["image"], batch["factors"], compiled, repeats=2)
    return {row.what: row for row in found}


def test_a_step_says_how_much_of_it_is_arithmetic(
    model: DiffusionCounterfactuals, small_batch: dict[str, torch.Tensor]
) -> None:
    found = rows(model, small_batch, compiled=False)
    share = found["in convolutions and matrix products, batch 8"]
    assert 0.05 < share.value < 1 and share.unit == "of the time"
    assert not any("compile" in what for what in found)


def test_a_compiled_step_is_compared_with_an_eager_one(
    model: DiffusionCounterfactuals,
    small_batch: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []

    def stand_in(function: Any, **_: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr("torch.compile", stand_in)
    found = rows(model, small_batch, compiled=True)
    assert len(compiled) == 1, "the step that is compared is not"
    assert found["compiled / eager, batch 8"].value == pytest.approx(1, abs=0.6)
    first = found["the first step, which compiles, batch 8"]
    assert first.value > 0 and first.unit == "s"
    assert not any("convolutions" in what for what in found), "of kernels no one can tell"


def test_memory_by_size_is_for_cards(
    model: DiffusionCounterfactuals, small_batch: dict[str, torch.Tensor]
) -> None:
    assert memory_by_size(model, small_batch["image"], small_batch["factors"], False) == []
