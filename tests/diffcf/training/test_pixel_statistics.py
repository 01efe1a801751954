"""``data_mean: auto``: measured before training, and recorded as numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace
from small_runs import tiny

from diffcf.causal import CausalGraph, Factor
from diffcf.commands.main import main
from diffcf.methods import DiffusionCounterfactuals
from diffcf.networks import UNet
from diffcf.training import cli, load_data, pixel_statistics
from diffcf.training.pixels import settle_pixels


def test_a_fit_measures_its_pixels_and_records_them(tmp_path: Path) -> None:
    config = Path(tiny(tmp_path, train_size=40))
    settings = yaml.safe_load(config.read_text())
    settings["model"]["init_args"]["generator"]["init_args"] |= {
        "data_mean": "auto",
        "data_std": "auto",
    }
    settings["trainer"] |= {"max_steps": 1, "limit_val_batches": 0}
    config.write_text(yaml.safe_dump(settings))
    run = cli(["fit", "--config", str(config)])
    data = load_data(config)
    data.setup()
    pixels = data.images_of("train", torch.arange(40)).double()
    mean, std = float(pixels.mean()), float(pixels.std())
    assert pixel_statistics(data) == pytest.approx((mean, std), abs=1e-3)
    assert run.model.generator.data_mean == pytest.approx(mean, abs=1e-3)
    model = DiffusionCounterfactuals.load_from_checkpoint(tmp_path / "last.ckpt")
    assert model.generator.data_std == run.model.generator.data_std == pytest.approx(std, abs=1e-3)
    # Whatever the data of a test: it keeps what the network was trained with.
    later = Namespace(ckpt_path=str(tmp_path / "last.ckpt"), data=None)
    later.model = Namespace(init_args=Namespace(generator={"init_args": {"data_mean": "auto"}}))
    settle_pixels(later)
    kept = later.model.init_args.generator["init_args"]["data_mean"]
    assert kept == model.generator.data_mean == run.model.generator.data_mean


def test_elsewhere_numbers_are_wanted(tmp_path: Path, capsys) -> None:
    with pytest.raises(ValueError, match="'auto' are measured by diffcf fit"):
        UNet(CausalGraph([Factor("a")]), data_mean="auto")
    config = tiny(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", "--config", config, "--model.generator.data_mean", "automatic"])
