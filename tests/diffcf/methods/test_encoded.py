"""Everything in latents: training, the exact null, checkpoints that need no file of the stage."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from stirring import stir

from data_modules import PendulumDataModule
from diffcf.causal import NSCM, CausalGraph
from diffcf.diffusion import ChangeFilter
from diffcf.io import SettingsError
from diffcf.methods import (
    DiffusionCounterfactuals,
    FirstStageTraining,
    Sampling,
    load_method,
    predict_sequence,
)
from diffcf.methods.encoded import agreement
from diffcf.networks import LocalPosteriorProjector, RegionMixer, UNet
from diffcf.networks.first_stage import ConvAutoencoder

STAGE = partial(ConvAutoencoder, latent_channels=4, channels=[8, 16])
SHAPE = {"image_channels": 4, "patch": 1}


def made(graph: CausalGraph, **settings: object) -> DiffusionCounterfactuals:
    return DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2, **SHAPE),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, **SHAPE),
        nscm=partial(NSCM, hidden=[8]),
        first_stage=settings.pop("first_stage", STAGE),
        mixing=RegionMixer(),
        **settings,
    )


def trainer(folder: Path, steps: int) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", default_root_dir=folder,
        enable_checkpointing=False, limit_val_batches=1, num_sanity_val_steps=0, **quiet,
    )  # fmt: skip


def data() -> PendulumDataModule:
    return PendulumDataModule(32, batch_size=8, train_size=24, val_size=8, test_size=8)


def test_a_first_stage_is_trained_and_then_worked_in(graph, small_batch, tmp_path: Path) -> None:
    first = trainer(tmp_path, 3)
    first.fit(FirstStageTraining(graph, STAGE), data())
    first.save_checkpoint(tmp_path / "stage.ckpt")

    model = made(graph, first_stage=partial(STAGE, weights=str(tmp_path / "stage.ckpt")))
    before = {n: v.clone() for n, v in model.first_stage.stage.state_dict().items()}
    run = trainer(tmp_path, 3)
    run.fit(model, data())
    after = model.first_stage.stage.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "it is frozen"
    assert not torch.equal(model.first_stage.std, torch.ones(1, 4, 1, 1)), "latents were measured"
    assert model.image_shape == (3, 32, 32)

    run.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "stage.ckpt").unlink()
    again = load_method(tmp_path / "last.ckpt")
    answers = [
        m.eval().method(Sampling(steps=2)).abduct(small_batch["image"]).predict({"light": 0.7})
        for m in (model, again)
    ]
    torch.testing.assert_close(answers[0].image, answers[1].image)


def test_the_null_intervention_is_exact(graph, small_batch) -> None:
    model = made(graph).eval()
    stir(model)
    image, factors = small_batch["image"], small_batch["factors"]
    world = model.method(Sampling(steps=3, anchored=True)).abduct(image, factors)
    torch.testing.assert_close(world.predict({}).image, image, atol=1e-4, rtol=0)
    assert (world.decoded - image).abs().mean() > 0.05, "the first stage alone is far from exact"
    changed = world.predict({"light": 0.9})
    assert changed.image.shape == image.shape and changed.image.abs().max() <= 1


@pytest.mark.parametrize("stage", [STAGE, None], ids=["latents", "pixels"])
def test_the_change_of_images_is_filtered(graph, small_batch, stage) -> None:
    shape = SHAPE if stage else {"patch": 4}
    model = DiffusionCounterfactuals(
        graph,
        generator=partial(UNet, channels=[8, 16], condition=16, attention_heads=2, **shape),
        projector=partial(LocalPosteriorProjector, channels=8, condition=8, **shape),
        nscm=partial(NSCM, hidden=[8]),
        first_stage=stage,
    ).eval()
    stir(model)
    image, change = small_batch["image"], ChangeFilter(radius=2)
    plain, filtered = (
        model.method(Sampling(steps=3, anchored=True, change_filter=f)).abduct(image)
        for f in (None, change)
    )
    before, after = (world.predict({"light": 0.9}).image for world in (plain, filtered))
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, change(image, before).clamp(-1, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(filtered.predict({}).image, image, atol=1e-4, rtol=0)


def test_worlds_are_selected_and_followed(graph, small_batch) -> None:
    model = made(graph).eval()
    stir(model)
    world = model.method(Sampling(steps=2)).abduct(small_batch["image"], small_batch["factors"])
    rows = torch.tensor([3, 3])
    alone = world.predict({"light": 0.9}).image[rows]
    torch.testing.assert_close(world.select(rows).predict({"light": 0.9}).image, alone)
    doings = [world.intervention({"light": 0.9}), world.intervention({"angle": 0.2})]
    first, second = predict_sequence(world, doings)
    torch.testing.assert_close(second.factors[:, 1], torch.full((8,), 0.9))
    assert not torch.equal(first.image, second.image)


def test_the_residual_is_given_back_where_nothing_changes() -> None:
    a, b = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    b[..., 8:] = 1.0
    same = agreement(a, b)
    assert same.shape == (1, 1, 16, 16)
    assert torch.equal(same[..., :6], torch.ones(1, 1, 16, 6)) and same[..., 9:].max() < 1e-6


def test_impossible_first_stages_get_a_sentence(graph, tmp_path: Path) -> None:
    wrong = made(graph, first_stage=partial(STAGE, latent_channels=8))
    with pytest.raises(SettingsError, match="takes images of 4 channels, got 8"):
        trainer(tmp_path, 1).fit(wrong, data())
    with pytest.raises(SettingsError, match="answers no interventions"):
        FirstStageTraining(graph, STAGE).method()
