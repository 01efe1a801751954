"""``diffcf export`` and the README's walk-through with your own data."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml

from data_modules.factor_table import FactorTableDataModule
from data_modules.pendulum import PendulumDataModule
from diffcf.causal.graph import CausalGraph
from diffcf.commands.main import main

SMALL = {"image_size": 32, "train_size": 40, "val_size": 6, "test_size": 8, "batch_size": 8}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    config = {"class_path": "data_modules.pendulum.PendulumDataModule", "init_args": SMALL}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    assert main(["export", str(folder / "small.yaml"), str(folder / "mine")]) == 0
    return folder


def test_what_is_exported_loads_as_your_own_data(exported: Path) -> None:
    folder = exported / "mine"
    original = PendulumDataModule(**SMALL)
    original.setup()
    module = FactorTableDataModule(
        folder / "images",
        folder / "factors.csv",
        folder / "graph.yaml",
        split_column="split",
        image_size=32,
        batch_size=8,
    )
    module.prepare_data()
    module.setup()
    assert module.graph == original.graph == CausalGraph.from_yaml(folder / "graph.yaml")
    for stage in ("train", "val", "test"):
        rows = torch.arange(original.size_of(stage))
        assert module.size_of(stage) == len(rows)
        torch.testing.assert_close(module.factors_of(stage), original.factors_of(stage))
        step = 1.01 / 127.5  # eight bits
        ours, theirs = module.images_of(stage, rows), original.images_of(stage, rows)
        torch.testing.assert_close(ours, theirs, atol=step, rtol=0)


def test_the_table_is_in_native_units(exported: Path) -> None:
    with (exported / "mine/factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 54 and {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(3 <= float(row["shadow_length"]) < 12.6 for row in rows)


def test_nothing_is_written_over(exported: Path, capsys) -> None:
    assert main(["export", str(exported / "small.yaml"), str(exported / "mine")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_some_images_of_some_splits(exported: Path) -> None:
    few = exported / "few"
    options = ["--splits", "[test, val]", "--images", "3"]
    assert main(["export", str(exported / "small.yaml"), str(few), *options]) == 0
    rows = list(csv.DictReader((few / "factors.csv").open()))
    assert [row["split"] for row in rows] == ["test"] * 3 + ["val"] * 3
    assert len(list((few / "images").iterdir())) == 6
