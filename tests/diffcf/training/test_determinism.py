from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import tiny

from diffcf.commands.main import main
from diffcf.training.callbacks.running import RandomState


def trained(folder: Path, seed: int) -> dict[str, float]:
    """Metrics of the validation that ends a small training."""
    assert main(["fit", "--config", tiny(folder), f"--seed_everything={seed}"]) == 0
    return metrics(folder, "val")


def measured(folder: Path) -> dict[str, float]:
    """Metrics of the test that follows."""
    config, checkpoint = str(folder / "config.yaml"), str(folder / "last.ckpt")
    assert main(["test", "--config", config, "--ckpt_path", checkpoint]) == 0
    return metrics(folder, "test")


def metrics(folder: Path, stage: str) -> dict[str, float]:
    """Times left out."""
    found = json.loads(next(folder.rglob(f"{stage}/metrics.json")).read_text())["metrics"]
    times = ("seconds", "memory")
    return {key: value for key, value in found.items() if not any(t in key for t in times)}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_the_same_seed_gives_the_same_metrics_to_the_last_bit(tmp_path: Path) -> None:
    first, second, other = (trained(tmp_path / n, s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert first == pytest.approx(second, rel=0, abs=0, nan_ok=True)
    assert any(other[key] != value for key, value in first.items() if "/" in key)
    first, second = measured(tmp_path / "a"), measured(tmp_path / "b")
    assert first == pytest.approx(second, rel=0, abs=0, nan_ok=True) and "psnr/roots" in first


def test_a_resumed_run_that_has_not_begun_keeps_the_random_state_it_was_given() -> None:
    torch.manual_seed(1)
    given = RandomState().state_dict()
    torch.manual_seed(2)
    resumed = RandomState()
    resumed.load_state_dict(given)  # and is cut short while it fetches its first batch
    assert torch.equal(resumed.state_dict()["cpu"], given["cpu"])
