"""Draws of what abduction leaves open: readings, discrete noise, new content."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from small_models import small_model
from torch import Tensor

from diffcf import Answer, Draws
from diffcf.api import AbductedImages, Model
from diffcf.causal import NSCM, CausalGraph, Factor, row_keys, uniform_noise
from diffcf.causal.refinement import drawn_reading
from diffcf.commands.main import main
from diffcf.io import SettingsError
from diffcf.methods import CausalVAE, Sampling, write_weights
from diffcf.networks.first_stage import ConvAutoencoder
from diffcf.reporting.pictures import save_image

MIXED = CausalGraph(
    [
        Factor("size", low=2.0, high=4.0),
        Factor("colour", "categorical", categories=("red", "green", "blue")),
        Factor("lit", "binary"),
        Factor("shade"),
    ],
    [("size", "lit"), ("colour", "lit"), ("size", "shade")],
)
SMOOTH = CausalGraph([Factor("size"), Factor("shade")], [("size", "shade")])
KNOWN = torch.tensor([[0.2, 0.5, 1.0, 0.4], [0.7, 0.0, 0.0, 0.6], [0.5, 1.0, 1.0, 0.1]])


def made(graph: CausalGraph = MIXED, **settings: object) -> Model:
    return small_model(graph, Sampling(steps=2, anchored=True), **settings)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


def draws(world: AbductedImages, do: dict, count: int = 4, **settings: float) -> Draws:
    found = world.predict(do, draws=count, **settings)  # type: ignore[arg-type]
    assert isinstance(found, Draws)
    return found


@pytest.mark.parametrize("latents", [False, True])
def test_under_no_intervention_every_draw_is_the_factual(images: Tensor, latents: bool) -> None:
    coder = partial(ConvAutoencoder, latent_channels=4, channels=[8, 8])
    stage = {"first_stage": coder} if latents else {}
    world = made(**stage).abduct(images)
    found = draws(world, {})
    assert found.images.shape == (4, 3, 3, 16, 16) and found.targets.shape == (4, 3, 4)
    torch.testing.assert_close(found.images, images.expand_as(found.images), atol=1e-4, rtol=0)
    assert torch.equal(found.targets, found.factors)
    assert found.factors.std(dim=0).max() > 0, "what is read is drawn"
    moved = draws(world, {"size": 0.9})
    assert moved.spread.max() > 1e-3 and moved.spread.shape == (3, 16, 16)


def test_where_nothing_is_open_draws_are_equal(images: Tensor) -> None:
    world = made(SMOOTH).abduct(images, KNOWN[:, :2])
    fixed = draws(world, {"size": 0.9}, fresh=0.0)
    assert (fixed.spread == 0).all() and torch.equal(*fixed.interval())
    answer = world.predict({"size": 0.9})
    assert torch.equal(fixed.images[0], answer.image) and torch.equal(fixed.mean, answer.image)
    assert (draws(world, {}).spread == 0).all(), "new content has no place"
    assert draws(world, {"size": 0.9}).spread.max() > 1e-3
    assert torch.equal(draws(world, {"size": 0.9}).targets[0], answer.target)


def test_what_is_given_is_not_drawn(images: Tensor) -> None:
    told = KNOWN.clone()
    told[:, 3] = torch.nan
    found = draws(made().abduct(images, told), {"size": 0.9})
    assert torch.equal(found.factors[:, :, :3], KNOWN[:, :3].expand(4, -1, -1))
    assert (found.factors[:, :, 3].std(dim=0) > 0).all()


def test_draws_are_an_images_own_whatever_their_number_and_batch(images: Tensor) -> None:
    model = made()
    found = draws(model.abduct(images), {"size": 0.9}, 4)
    alone = draws(model.abduct(images[2:]), {"size": 0.9}, 2)
    torch.testing.assert_close(alone.images, found.images[:2, 2:], atol=1e-4, rtol=0)
    torch.testing.assert_close(alone.targets, found.targets[:2, 2:])
    assert torch.equal(draws(model.abduct(images), {"size": 0.9}, 4).images, found.images)
    assert not torch.equal(
        draws(model.abduct(images), {"size": 0.9}, 4, seed=1).images, found.images
    )
    soft = draws(model.abduct(images), {"size": "~uniform:0:1"}, 4)
    assert len(soft.targets[:, 0, 0].unique()) == 4


def test_one_draw_is_the_answer(images: Tensor) -> None:
    world = made().abduct(images)
    one, plain = world.predict({"size": 0.9}, draws=1), world.predict({"size": 0.9})
    assert isinstance(one, Answer) and torch.equal(one.image, plain.image)


def test_discrete_noise_is_drawn_from_its_posterior(images: Tensor) -> None:
    model = made()
    nscm = model.module.nscm
    world = model.abduct(images[:1], KNOWN[:1]).world
    keys = row_keys(torch.arange(4000))
    factors = KNOWN[:1].expand(4000, -1)
    values, mask = torch.full_like(factors, 0.9), torch.zeros_like(factors, dtype=torch.bool)
    mask[:, 0] = True
    many = nscm.predict(factors, nscm.abduct(factors, keys), values, mask)[:, 2].mean()
    few = [float(w.factors_under({"size": 0.9})[0, 2]) for w in _redrawn(world, 200)]
    assert sum(few) / 200 == pytest.approx(float(many), abs=0.14)


def _redrawn(world, count: int):
    return (world.redrawn(row_keys(world.keys, k), 0.0) for k in range(count))


def test_a_drawn_reading_has_the_distribution_that_is_read() -> None:
    mean = torch.tensor([[0.5, 0.2, 0.3, 0.5, 0.8, 0.4]]).expand(6000, -1)
    variance = torch.full((6000, 6), 0.01)
    noise = uniform_noise(row_keys(torch.arange(6000)), 4)
    drawn = drawn_reading(MIXED, mean, variance, noise)
    assert drawn[:, 0].mean() == pytest.approx(0.5, abs=0.006)
    assert drawn[:, 0].std() == pytest.approx(0.1, rel=0.05)
    shares = [float((drawn[:, 1] == level).float().mean()) for level in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.2, 0.3, 0.5], abs=0.03)
    assert drawn[:, 2].mean() == pytest.approx(0.8, abs=0.03)


def test_what_is_refined_is_the_mean_of_what_is_drawn() -> None:
    torch.manual_seed(0)
    nscm = NSCM(SMOOTH, hidden=[8])
    code = torch.tensor([[0.4, 0.7]]).expand(6000, -1)
    variance = torch.tensor([[1e-12, 0.04]]).expand(6000, -1)
    noise = uniform_noise(row_keys(torch.arange(6000)), 2)
    with torch.no_grad():
        drawn = nscm.refine(code, variance, 0.0, noise)
        refined = nscm.refine(code[:1], variance[:1], 0.0)
    torch.testing.assert_close(drawn[:, 0], code[:, 0], atol=1e-4, rtol=0)
    assert drawn[:, 1].mean() == pytest.approx(float(refined[0, 1]), abs=0.01)
    assert drawn[:, 1].std() > 0.05


def test_an_interval_holds_its_share_of_the_draws(images: Tensor) -> None:
    found = draws(made().abduct(images), {"size": 0.9}, 8)
    low, high = found.interval(0.5)
    inside = ((found.targets >= low) & (found.targets <= high)).float().mean(dim=0)
    assert (inside >= 0.5).all() and torch.equal(low[:, 0], torch.full((3,), 0.9))


def test_what_cannot_be_drawn_is_one_sentence(images: Tensor) -> None:
    world = made().abduct(images)
    for wrong in ({"draws": 0}, {"draws": 1001}, {"draws": 2, "fresh": 1.5}):
        with pytest.raises(SettingsError, match=r"1 to 1000|lies in"):
            world.predict({}, **wrong)  # type: ignore[arg-type, call-overload]
    peer = Model(CausalVAE(SMOOTH).eval(), Sampling(steps=1))
    wide = torch.zeros(1, 3, 64, 64)
    with pytest.raises(SettingsError, match="draws nothing that abduction leaves open"):
        peer.abduct(wide).predict({"size": 0.9}, draws=2)


@pytest.mark.filterwarnings("ignore:These weights do not record")
def test_the_command_writes_draws_a_map_and_intervals(
    images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made()
    write_weights(model.module, model.sampling, tmp_path / "some.safetensors")
    (tmp_path / "images").mkdir()
    for k, image in enumerate(images[:2]):
        save_image(image, tmp_path / f"images/{k}.png")
    out, folder = tmp_path / "out", str(tmp_path / "images")
    ask = ["counterfactual", str(tmp_path / "some.safetensors"), folder, "--out", str(out)]
    for wrong in (["--sweep", "size=2:4:3"], ["--do", "size=3", "--fresh", "2"]):
        assert main([*ask, *wrong, "--draws", "3"]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not out.exists()
    assert main([*ask, "--do", "size=3.9", "--draws", "3"]) == 0
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    drawn = [f"{k}_{n}.png" for k in range(2) for n in (1, 2, 3)]
    assert names == sorted([*drawn, "sheet.png", "spread/0.png", "spread/1.png"])
    record = json.loads((out / "factors.json").read_text())
    assert record["draws"] == 3
    row = record["images"]["1"]
    shades = [target[3] for target in row["target"]]
    assert row["low"][3] == min(shades) and row["high"][3] == max(shades)
    assert row["low"][0] == row["high"][0] == pytest.approx(3.9)
    again = ["--overwrite", "true", "--do"]
    assert main([*ask, *again, "size=3.9", "--draws", "3", "--batch_size", "1"]) == 0
    alone = json.loads((out / "factors.json").read_text())["images"]["1"]
    assert alone["target"][2] == pytest.approx(row["target"][2], abs=1e-4)
