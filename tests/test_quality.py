"""What a short training must reach, read by the scene's ruler: minutes, hence `make test-slow`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diffcf.commands.main import main

CONFIG = Path(__file__).parents[1] / "experiments/pendulum_quick.yaml"


@pytest.mark.slow
def test_the_quick_preset_answers_roots_and_leaves(tmp_path, monkeypatch) -> None:
    torch.set_num_threads(2)  # conftest puts it back to one
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", str(CONFIG)]) == 0
    ckpt = "runs/pendulum_quick/last.ckpt"
    assert main(["test", "--config", str(CONFIG), "--ckpt_path", ckpt]) == 0
    (record,) = tmp_path.rglob("test/metrics.json")
    metrics = json.loads(record.read_text())["metrics"]
    # On these images, to ignore the intervention scores .164 and .061.
    assert metrics["acm/roots"] < 0.02
    assert metrics["acm/leaves"] < 0.04
    assert metrics["psnr/reconstruction"] > 40
