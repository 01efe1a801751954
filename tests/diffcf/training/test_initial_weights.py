"""A training that starts from the weights of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_runs import tiny

from diffcf.io import CheckpointError, SettingsError
from diffcf.methods import load_method
from diffcf.training import cli

INITIAL = "diffcf.training.InitialWeights"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    cli(["fit", "--config", tiny(folder), "--trainer.max_steps=2", "--trainer.limit_val_batches=0"])
    return folder / "last.ckpt"


def _start(tmp_path: Path, path: Path, **generator: Any) -> Path:
    """Fit one step at a rate of 0 from the weights of ``path``; its checkpoint."""
    config = tiny(tmp_path / "run")
    given = yaml.safe_load(Path(config).read_text())
    initial = {"class_path": INITIAL, "init_args": {"path": str(path)}}
    given["trainer"]["callbacks"].append(initial)
    given["model"]["init_args"] |= {"learning_rate": 0.0, "projector_learning_rate": 0.0}
    given["model"]["init_args"]["generator"]["init_args"] |= generator
    given["trainer"] |= {"max_steps": 1, "limit_val_batches": 0}
    Path(config).write_text(yaml.safe_dump(given))
    cli(["fit", "--config", config])
    return tmp_path / "run" / "last.ckpt"


@pytest.fixture(scope="module")
def started(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _start(tmp_path_factory.mktemp("started"), trained)


def test_it_starts_as_the_trained_model_is(trained: Path, started: Path) -> None:
    old, new = (load_method(path).state_dict() for path in (trained, started))
    assert old.keys() == new.keys()
    for name, value in new.items():
        torch.testing.assert_close(value, old[name], msg=name)


def test_the_record_names_the_training_it_started_from(trained: Path, started: Path) -> None:
    record = load_method(started).training_record.as_dict()
    assert record["steps"] == 1
    assert record["initial"] == load_method(trained).training_record.as_dict()


def test_further_inputs_of_a_layer_start_without_effect(tmp_path: Path, trained: Path) -> None:
    old, new = load_method(trained), load_method(_start(tmp_path, trained, style=3))
    x, t, z = torch.randn(2, 3, 32, 32), torch.rand(2), torch.rand(2, len(old.graph))
    with torch.no_grad():
        style = new.generator.encode_style(x)
        torch.testing.assert_close(new.generator(x, t, z, None, style), old.generator(x, t, z))


def test_other_networks_and_missing_files_are_refused(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(SettingsError, match="give the networks the sizes they had"):
        _start(tmp_path / "wide", trained, channels=[16, 16])
    with pytest.raises(CheckpointError, match=r"nothing\.ckpt"):
        _start(tmp_path / "none", tmp_path / "nothing.ckpt")
