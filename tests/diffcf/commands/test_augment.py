"""``diffcf augment``: counterfactual rows that a data module reads, balanced where asked."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from small_nscms import CATEGORICAL
from stirring import stir

from data_modules import FactorTableDataModule
from diffcf.causal import CausalGraph, Factor, uniform_factors
from diffcf.commands.augment.plan import at_random, balanced
from diffcf.commands.main import main
from diffcf.diffusion import NoGuidance
from diffcf.io import DataError, GraphError, SettingsError
from diffcf.methods import DiffusionCounterfactuals, Sampling, write_weights
from diffcf.networks import LocalPosteriorProjector, UNet
from diffcf.reporting import save_image

GRAPH = CausalGraph(
    [Factor("size", low=2.0, high=6.0), Factor("lit", "binary"), Factor("hat", "binary")],
    [("size", "lit")],
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An untrained model, and data in which most that are lit wear a hat."""
    torch.manual_seed(0)
    generator = partial(UNet, channels=[8, 16], condition=16, attention_heads=2)
    projector = partial(LocalPosteriorProjector, channels=8, condition=8)
    model = DiffusionCounterfactuals(GRAPH, generator=generator, projector=projector, mixing=None)
    stir(model)
    model.image_shape = (3, 32, 32)
    write_weights(model, Sampling(NoGuidance(), steps=1), tmp_path / "some.safetensors")
    (tmp_path / "images").mkdir()
    (tmp_path / "graph.yaml").write_text(GRAPH.to_yaml())
    with (tmp_path / "factors.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "split", "intervened", *GRAPH.names])
        for row in range(20):
            save_image(torch.rand(3, 32, 32) * 2 - 1, tmp_path / f"images/{row}.png")
            lit = row % 2
            split = "test" if row > 17 else "val" if row > 15 else "train"
            is_set, hat = "hat" if row == 2 else "", 1 - lit if row == 3 else lit
            table.writerow([f"{row}.png", split, is_set, 2 + row / 5, lit, "" if row == 4 else hat])
    places = {"images": "images", "table": "factors.csv", "graph": "graph.yaml"}
    settings = places | {"image_size": 32, "batch_size": 4, "split_column": "split"}
    data = {"class_path": "data_modules.FactorTableDataModule", "init_args": settings}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "factors.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_back(out: Path) -> FactorTableDataModule:
    places = out / "images", out / "factors.csv", out / "graph.yaml"
    data = FactorTableDataModule(*places, split_column="split", image_size=32, batch_size=4)
    data.prepare_data()
    data.setup()
    return data


def test_a_balanced_copy(folder: Path, capsys) -> None:
    command = ["augment", "some.safetensors", "data.yaml", "out", "--balance", "lit,hat"]
    assert main([*command, "--folders", "hat", "--seed", "3"]) == 0
    rows = rows_of(folder / "out")
    train = [row for row in rows if row["split"] == "train" and row["hat"]]
    counts = Counter((row["lit"], row["hat"]) for row in train)
    assert len(counts) == 4 and len(set(counts.values())) == 1
    assert [row["split"] for row in rows].count("test") == 2
    for row in rows:
        place = f"{row['split']}/{row['hat']}/" if row["hat"] else "unlabelled/train/"
        assert row["image"].startswith(place) and (folder / "out/images" / row["image"]).is_file()
    made = [row for row in rows if row["source"]]
    factual = {row["image"]: row for row in rows if not row["source"]}
    assert made and {row["source"] for row in made} <= set(factual)
    assert {row["intervened"] for row in made} == {"lit;hat"}
    assert all(row["size"] == factual[row["source"]]["size"] for row in made), "it is no effect"
    data = read_back(folder / "out")
    assert data.size_of("train") == len(rows) - 4 and data.size_of("test") == 2
    intervened = data.intervened_of("train")
    assert int(intervened.sum()) == 2 * len(made) + 1, "what was set in a factual stays"
    record = json.loads((folder / "out/augment.json").read_text())
    assert record["counterfactuals"] == len(made) and record["images"] == 20
    assert main(command) == 2 and "exists already" in capsys.readouterr().err


def test_random_interventions_are_those_of_the_seed(folder: Path) -> None:
    for out, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        command = ["augment", "some.safetensors", "data.yaml", out, "--times", "2"]
        assert main([*command, "--seed", seed]) == 0
    rows = rows_of(folder / "one")
    made = [row for row in rows if row["source"]]
    assert Counter(row["source"] for row in made) == Counter(
        {row["image"]: 2 for row in rows if row["split"] == "train" and not row["source"]}
    )
    assert all(2 <= float(row["size"]) <= 6 for row in made)
    assert rows == rows_of(folder / "again") != rows_of(folder / "other")
    data = read_back(folder / "one")
    assert int(data.intervened_of("train").any(dim=1).sum()) == len(made) + 1
    model_rows = data.factors_of("train")[-len(made) :]
    assert not model_rows.isnan().any(), "what is not known of a factual is read"


SOME = ["some.safetensors", "data.yaml", "out"]


@pytest.mark.parametrize(
    "given, said",
    [
        (SOME, "--balance"),
        ([*SOME, "--balance", "lit", "--times", "2"], "--balance"),
        ([*SOME, "--balance", "wind"], "wind"),
        ([*SOME, "--balance", "lit,lit"], "twice"),
        ([*SOME, "--times", "1", "--folders", "size"], "--folders"),
        ([*SOME, "--times", "1", "--folders", "wind"], "wind"),
        (["pendulum", "data.yaml", "out", "--times", "1"], "another graph"),
        (["some.safetensors", "gone.yaml", "out", "--times", "1"], "gone.yaml"),
        (["gone.ckpt", "data.yaml", "out", "--times", "1"], "gone.ckpt"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, given: list[str], said: str, capsys) -> None:
    assert main(["augment", *given]) == 2
    text = capsys.readouterr().err.strip()
    assert said in text and len(text.splitlines()) == 1
    assert not list(folder.glob("out*")), "nothing is half-written"


# --- plans ---


def test_combinations_that_nobody_has_become_as_frequent_as_others() -> None:
    generator = torch.Generator().manual_seed(0)
    factors = uniform_factors(CATEGORICAL, 50, generator)
    factors[:, 0] = factors[:, 0].clamp(max=0.5)  # no cone
    factors[:5, 2] = torch.nan
    names = ["shape", "lit", "size"]
    columns = [CATEGORICAL.column(name) for name in names]
    added = balanced(CATEGORICAL, factors, names, generator)
    mask = torch.tensor([name in names for name in CATEGORICAL.names])
    assert (added.do.mask == mask).all() and (added.source >= 5).all()
    discrete = columns[:2]
    whole = torch.cat([factors[5:], torch.where(added.do.mask, added.do.values, torch.nan)])
    counts = whole[:, discrete].unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6 and counts.unique().numel() == 1
    assert set(added.do.values[:, columns[2]].tolist()) <= set(factors[5:, columns[2]].tolist())
    # What is balanced stays as it is.
    assert not len(balanced(CATEGORICAL, whole.nan_to_num(0.5), names[:2], generator).source)


def test_what_cannot_be_balanced_is_one_sentence() -> None:
    generator, factors = torch.Generator(), torch.full((4, 4), torch.nan)
    with pytest.raises(DataError, match="labels of lit"):
        balanced(CATEGORICAL, factors, ["lit"], generator)
    with pytest.raises(SettingsError, match="twice"):
        balanced(CATEGORICAL, factors, ["lit", "lit"], generator)
    with pytest.raises(GraphError, match="wind"):
        balanced(CATEGORICAL, factors, ["wind"], generator)


def test_random_plans_set_every_factor_equally_often() -> None:
    added = at_random(CATEGORICAL, 10, 4, torch.Generator().manual_seed(0))
    assert added.do.mask.sum(dim=0).tolist() == [10] * 4
    assert (added.do.mask.sum(dim=1) == 1).all()
    assert added.source.bincount().tolist() == [4] * 10
    assert torch.equal(CATEGORICAL.snap(added.do.values), added.do.values)


def test_measure_compares_counterfactuals_with_exact_ones(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    data = {"image_size": 64, "train_size": 8, "val_size": 1, "test_size": 8, "batch_size": 4}
    config = tmp_path / "data.yaml"
    config.write_text(
        yaml.safe_dump({"class_path": "data_modules.PendulumDataModule", "init_args": data})
    )
    out = tmp_path / "out"
    command = ["augment", "pendulum", str(config), str(out), "--measure", "shadow_length"]
    assert main([*command, "--steps", "2", "--seeds", "2", "--count", "6"]) == 0
    record = json.loads((out / "augment.json").read_text())
    # What cannot be shown, a shadow beyond the edge, is not asked.
    assert 1 <= record["images"] <= 6 and 1 <= record["test_images"] <= 6
    assert len(record["closed"]) == len(record["accuracy"]) == 2
    for found in record["accuracy"]:
        assert set(found) == {"factual", "factual + by the model", "factual + exact"}
        assert all(0 <= share <= 1 for tests in found.values() for share in tests.values())
    assert "factual + exact" in (out / "augment.md").read_text()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--measure", "hat"], "exact counterfactuals"),
        (["--measure", "hat", "--times", "1"], "one of the three"),
        (["--measure", "hat", "--folders", "hat"], "--folders"),
        ([], "one of the three"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(folder: Path, capsys, more, named) -> None:
    assert main(["augment", "some.safetensors", "data.yaml", "out", *more]) == 2
    assert named in capsys.readouterr().err
    assert not (folder / "out").exists()
