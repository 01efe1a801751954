"""New images: P(x) and P(x | do(…)), with no factual."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from small_models import small_model

from data_modules import FactorTableDataModule
from diffcf.api import Model, load
from diffcf.causal import CausalGraph, Factor, RootQuantiles, row_keys
from diffcf.commands.main import main
from diffcf.io import SettingsError
from diffcf.methods import (
    CausalVAE,
    Sampling,
    draw_factors,
    write_weights,
)
from diffcf.methods.drawing import normal_noise
from diffcf.networks.first_stage import ConvAutoencoder

MIXED = CausalGraph(
    [
        Factor("size", low=2.0, high=4.0),
        Factor("colour", "categorical", categories=("red", "green", "blue")),
        Factor("lit", "binary"),
    ],
    [("size", "lit"), ("colour", "lit")],
)


def made(graph: CausalGraph = MIXED, **settings: object) -> Model:
    return small_model(graph, Sampling(steps=2), **settings)


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_a_row_is_the_same_in_any_batch_and_another_under_another_seed() -> None:
    model = made()
    together = model.sample(5, steps=3)
    assert together.image.shape == (5, 3, 16, 16) and together.image.abs().max() <= 1
    apart = model.sample(2, steps=3, start=3)
    torch.testing.assert_close(apart.image, together.image[3:], atol=1e-5, rtol=0)
    assert torch.equal(apart.factors, together.factors[3:])
    other = model.sample(5, steps=3, seed=1)
    assert not torch.equal(other.factors, together.factors)
    assert not torch.equal(together.image[0], together.image[1])


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_two_interventions_share_their_noise() -> None:
    model = made()
    plain = model.sample(64, steps=1)
    lit = model.sample(64, {"lit": 1.0}, steps=1)
    assert (lit.factors[:, 2] == 1).all() and torch.equal(lit.factors[:, :2], plain.factors[:, :2])
    same = plain.factors[:, 2] == 1
    assert same.any() and torch.equal(lit.image[same], plain.image[same])
    native = model.sample(4, {"size": 3.0, "colour": "blue"}, "native", steps=1)
    torch.testing.assert_close(native.factors[:, :2], torch.tensor([[3.0, 2.0]] * 4))


def test_factors_follow_the_causal_model_with_noise_of_its_prior() -> None:
    model, keys = made(), row_keys(torch.arange(4000), seed=3)
    factors, exogenous = draw_factors(model.module.nscm, keys)
    assert ((factors >= 0) & (factors <= 1)).all()
    size = exogenous[:, 0]
    assert size.mean().abs() < 0.06 and (size.std() - 1).abs() < 0.05
    # The frequency of each level is the probability that the model gives it, and of no other.
    logits = model.module.nscm.equations.location(
        model.module.nscm.equations.inputs(factors, model.graph.adjacency)
    )
    chance = logits[1, :, :3].softmax(-1).mean(dim=0)
    drawn = torch.bincount((factors[:, 1] * 2).round().long(), minlength=3) / len(factors)
    torch.testing.assert_close(drawn, chance, atol=0.03, rtol=0)
    lit = logits[2, :, 0].sigmoid()
    assert (factors[:, 2].mean() - lit.mean()).abs() < 0.03


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_roots_are_those_of_the_training_data_in_weights_too(tmp_path: Path) -> None:
    model = made()
    model.module.roots = RootQuantiles(MIXED, {"size": torch.tensor([0.25, 0.75])})
    drawn = model.sample(40, steps=1)
    assert set(drawn.factors[:, 0].tolist()) == {0.25, 0.75}
    write_weights(model.module, model.sampling, tmp_path / "small.safetensors", torch.float32)
    again = load(tmp_path / "small.safetensors").sample(40, steps=1)
    assert torch.equal(again.factors, drawn.factors)


def test_noise_of_images_is_normal_and_not_that_of_factors() -> None:
    keys = row_keys(torch.arange(500))
    noise = normal_noise(keys, 40)
    assert noise.mean().abs() < 0.03 and (noise.std() - 1).abs() < 0.03
    exogenous = draw_factors(made().module.nscm, keys)[1][:, 0]
    assert torch.corrcoef(torch.stack([noise[:, 0], exogenous]))[0, 1].abs() < 0.15


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_latents_are_decoded() -> None:
    stage = partial(ConvAutoencoder, latent_channels=4, channels=[8, 8])
    image = made(first_stage=stage).sample(2, steps=2).image
    assert image.shape == (2, 3, 16, 16) and image.abs().max() <= 1


def test_a_method_without_a_generator_of_noise_is_refused() -> None:
    module = CausalVAE(MIXED)
    module.image_shape = (3, 16, 16)
    with pytest.raises(SettingsError, match="draws no new images"):
        Model(module, Sampling()).sample(2)


def test_the_command_writes_a_dataset_and_nothing_twice(tmp_path: Path, capsys) -> None:
    weights, out = tmp_path / "small.safetensors", tmp_path / "drawn"
    model = made()
    write_weights(model.module, model.sampling, weights)
    ask = ["sample", str(weights), "--count", "12", "--do", "colour=red", "--steps", "2"]
    ask += ["--batch_size", "5", "--seed", "4", "--out", str(out)]
    assert main(ask) == 0
    assert json.loads((out / "sample.json").read_text())["do"] == ["colour=red"]
    with (out / "factors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["colour"] for row in rows} == {"red"}
    assert (out / "sheet.png").is_file()
    data = FactorTableDataModule(
        out / "images", out / "factors.csv", out / "graph.yaml", image_size=16, batch_size=4
    )
    data.setup()
    assert data.size_of("train") > 4 and data.graph.factors == MIXED.factors
    assert main(ask) == 2 and "exists" in capsys.readouterr().err
    assert main([*ask[:-1], str(tmp_path / "other"), "--do", "shape=red"]) == 2
    assert "Unknown factor 'shape'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_command_measures_factors_against_a_scene(tmp_path: Path, capsys) -> None:
    config, out = tmp_path / "data.yaml", tmp_path / "out"
    data = "{image_size: 64, train_size: 40, val_size: 1, test_size: 1, batch_size: 4}"
    config.write_text(f"class_path: data_modules.PendulumDataModule\ninit_args: {data}\n")
    ask = ["sample", "pendulum", "--measure", str(config), "--count", "100", "--out", str(out)]
    assert main([*ask, "--do", "light=1.2"]) == 2 and "--do" in capsys.readouterr().err
    assert main(ask) == 0
    record = json.loads((out / "marginals.json").read_text())
    assert "shadow_length" in record["distances"]["do()"]
    assert "| do() |" in (out / "marginals.md").read_text()
    assert main(ask) == 2 and "exists" in capsys.readouterr().err
