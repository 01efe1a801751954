"""Every experiment: valid, and fit, test and counterfactuals on small data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import ROOT, tiny

from diffcf.cli import cli, main
from diffcf.module import DiffusionCounterfactuals

EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
# What a small run needs other than the defaults of small_runs.tiny.
SMALL: dict[str, dict[str, Any]] = {
    "flow": {"image_size": 64},
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_config_is_valid(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(ROOT / f"experiments/{name}.yaml"), "--print_config"])
    assert stop.value.code == 0
    assert "class_path: data_modules." in capsys.readouterr().out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_fits_tests_and_answers(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = tiny(tmp_path, name, **SMALL.get(name, {}))
    built = cli(["fit", "--config", config])
    assert built.model.graph == built.datamodule.graph
    checkpoint = str(tmp_path / "last.ckpt")
    assert main(["test", "--config", config, "--ckpt_path", checkpoint]) == 0
    record = json.loads(next(tmp_path.rglob("test/metrics.json")).read_text())
    assert record["images"] == 6 and record["metrics"]["psnr/reconstruction"] > 0
    assert next(tmp_path.rglob("test/grid.png")).stat().st_size > 0
    model = DiffusionCounterfactuals.load_from_checkpoint(checkpoint)
    batch = next(iter(built.datamodule.test_dataloader()))
    first = model.graph.names[0]
    answer = model.engine().abduct(batch["image"]).predict({first: 1.0})
    assert answer.image.shape == batch["image"].shape and torch.isfinite(answer.image).all()
    assert (answer.factors[:, 0] == 1).all()
