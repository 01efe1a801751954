"""Interventions beyond hard ones, as they are asked from Python and from the shell."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from stirring import stir
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import Scale, Shift, Uniform, When
from diffcf.commands.main import main
from diffcf.io import InterventionError
from diffcf.methods import DiffusionCounterfactuals, Sampling, write_weights
from diffcf.reporting.pictures import save_image


@pytest.fixture
def asked(model: DiffusionCounterfactuals) -> Model:
    stir(model)
    model.image_shape = (3, 32, 32)
    return Model(model, Sampling(steps=2, anchored=True))


@pytest.fixture
def folder(small_batch: dict, tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for k in range(3):
        save_image(small_batch["image"][k], tmp_path / f"images/{k}.png")
    return tmp_path / "images"


@pytest.fixture
def file(asked: Model, tmp_path: Path) -> str:
    write_weights(asked.module, asked.sampling, tmp_path / "some.safetensors")
    return str(tmp_path / "some.safetensors")


def test_a_shift_is_what_setting_its_values_is(asked: Model, small_batch: dict) -> None:
    images, factors = small_batch["image"], small_batch["factors"] * 0.8
    world = asked.abduct(images, factors)
    shifted, hard = (
        world.predict({"light": Shift(0.1)}),
        world.predict({"light": factors[:, 1] + 0.1}),
    )
    torch.testing.assert_close(shifted.target, hard.target)
    torch.testing.assert_close(shifted.image, hard.image, atol=1e-4, rtol=0)
    assert torch.equal(shifted.intervened, hard.intervened) and not shifted.clipped[:, 1].any()
    none, null = world.predict({"light": Shift(0.0)}), world.predict({})
    torch.testing.assert_close(none.target, null.target)
    torch.testing.assert_close(none.image, null.image, atol=1e-4, rtol=0)
    much = world.predict({"light": "+=0.95"})
    assert torch.equal(much.clipped[:, 1], factors[:, 1] + 0.95 > 1)


def test_where_a_condition_fails_the_factual_is_returned(asked: Model, small_batch: dict) -> None:
    images, factors = small_batch["image"], small_batch["factors"]
    held = factors[:, 0] < factors[:, 0].median()
    do = {"light": When(0.9, "angle", "<", float(factors[:, 0].median()))}
    answer = asked.counterfactual(images, do, factors)
    assert torch.equal(answer.intervened.any(dim=1), held) and 0 < held.sum() < len(held)
    assert torch.equal(answer.target[~held], factors[~held])
    torch.testing.assert_close(answer.image[~held], images[~held], atol=1e-4, rtol=0)
    hard = asked.counterfactual(images, {"light": 0.9}, factors)
    torch.testing.assert_close(answer.target[held], hard.target[held])


def test_each_step_of_a_sequence_changes_what_the_last_one_left(
    asked: Model, small_batch: dict
) -> None:
    world = asked.abduct(small_batch["image"], small_batch["factors"] * 0.5)
    first, second, third = world.sequence(
        [{"light": Shift(0.1)}, {"light": Scale(1.5)}, {"angle": When(0.3, "light", ">", 0.9)}]
    )
    torch.testing.assert_close(first.target[:, 1], world.factors[:, 1] + 0.1)
    torch.testing.assert_close(second.target[:, 1], 1.5 * first.target[:, 1])
    assert torch.equal(third.intervened[:, 0], second.target[:, 1] > 0.9)


def test_what_is_drawn_is_the_images_own(asked: Model, small_batch: dict) -> None:
    images, do = small_batch["image"], {"light": Uniform(0.2, 0.4)}
    world = asked.abduct(images)
    target = world.predict(do).target
    assert ((target[:, 1] >= 0.2) & (target[:, 1] <= 0.4)).all()
    assert torch.equal(asked.abduct(images[5:]).predict(do).target[:, 1], target[5:, 1])
    assert torch.equal(world.select([5, 5]).predict(do).target[:, 1], target[[5, 5], 1])
    assert not torch.equal(asked.abduct(images, seed=1).predict(do).target[:, 1], target[:, 1])
    assert torch.equal(world.sequence([{}, do])[1].target[:, 1], target[:, 1])


def test_new_images_are_drawn_under_a_distribution(asked: Model) -> None:
    drawn = asked.sample(6, {"light": "~uniform:0.2:0.4"}, steps=1, size=32)
    light = drawn.factors[:, 1]
    assert ((light >= 0.2) & (light <= 0.4)).all() and len(light.unique()) == 6
    with pytest.raises(InterventionError, match="new images have none"):
        asked.sample(2, {"light": Shift(0.1)}, steps=1, size=32)


def test_the_command_records_what_was_set_in_each_image(
    file: str, folder: Path, tmp_path: Path
) -> None:
    ask = ["counterfactual", file, str(folder), "--out", str(tmp_path / "out"), "--do"]
    assert main([*ask, "light+=0.1 if angle<0", "--then", "light~uniform:1:1.1"]) == 0
    record = json.loads((tmp_path / "out/factors.json").read_text())
    assert record["do"] == ["light+=0.1 if angle<0"]
    for row in record["images"].values():
        held = row["factual"][0] < 0
        assert row["intervened"] == ["light"]
        if held and "light" not in row["clipped"]:
            assert row["target"][0][1] == pytest.approx(row["factual"][1] + 0.1, abs=1e-4)
        elif not held:
            assert row["target"][0] == row["factual"]
        assert 1 <= row["target"][1][1] <= 1.1
    assert main([*ask, "light=1", "--overwrite", "true"]) == 0
    hard = json.loads((tmp_path / "out/factors.json").read_text())["images"]["0"]
    assert "intervened" not in hard


@pytest.mark.parametrize("do", ["light~uniform:0:99", "light+=x", "moon-=1", "light=1 if moon>0"])
def test_a_wrong_change_is_one_sentence_and_leaves_nothing(
    file: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], do: str
) -> None:
    out = tmp_path / "out"
    assert main(["counterfactual", file, str(folder), "--do", do, "--out", str(out)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["sample", file, "--count", "1", "--do", do, "--out", str(out)]) == 2
    assert not out.exists() and not list(tmp_path.glob("out*"))


def test_the_sample_command_takes_draws_and_no_shifts(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["sample", file, "--count", "3", "--steps", "1", "--out", str(tmp_path / "out"), "--do"]
    assert main([*ask, "light+=0.1"]) == 2
    assert "new images have none" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*ask, "light~normal:1:0.01"]) == 0
    with (tmp_path / "out/factors.csv").open() as table:
        light: list[float] = [float(row["light"]) for row in csv.DictReader(table)]
    assert torch.tensor(light).sub(1).abs().max() < 0.1 and len(set(light)) == 3


def test_images_that_are_read_shift_by_what_is_read(asked: Model, small_batch: dict) -> None:
    images: Tensor = small_batch["image"]
    world = asked.abduct(images)
    answer = world.predict({"angle": Shift(-0.05)}, "native")
    expected = asked.in_units(world.factors, "native")[:, 0] - 0.05
    kept = ~answer.clipped[:, 0]
    torch.testing.assert_close(answer.target[kept, 0], expected[kept], atol=1e-5, rtol=0)
