"""Training of the evaluator: what it learns from, and which weights it keeps."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.evaluator.module import FactorEvaluator, relit
from diffcf.networks.projector import LocalPosteriorProjector
from diffcf.networks.region_mixing import RegionMixer

GRAPH = CausalGraph([Factor("a")])
SMALL = partial(LocalPosteriorProjector, image_channels=1, channels=16, condition=8)


def _stripes(count: int) -> list[dict[str, torch.Tensor]]:
    """A stripe at the left writes the factor in its grey level; elsewhere there is nothing."""
    factors = torch.rand(count, 1)
    images = torch.zeros(count, 1, 32, 32)
    images[..., :4] = factors[:, :, None, None]
    rows = torch.arange(count)
    return [
        {"image": i, "factors": f, "index": r}
        for i, f, r in zip(images, factors, rows, strict=True)
    ]


def _fit(model: FactorEvaluator, steps: int, every: int) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train = DataLoader(_stripes(256), batch_size=32, shuffle=True)
    trainer.fit(model, train, DataLoader(_stripes(32), batch_size=16))
    return trainer


def test_it_learns_to_read() -> None:
    model = FactorEvaluator(GRAPH, SMALL, learning_rate=5e-3, warmup=0.07)
    _fit(model, 150, 50)
    assert model.best_error < 0.05
    record = model.training_record.as_dict()
    assert record["steps"] == 150 and record["seconds"] > 0


def test_it_learns_to_read_by_muon_in_any_light() -> None:
    model = FactorEvaluator(GRAPH, SMALL, learning_rate=5e-3, warmup=0.07, light=0.1, muon=0.02)
    trainer = _fit(model, 150, 50)
    assert model.best_error < 0.1
    (optimizer,) = trainer.optimizers
    matrices, others = optimizer.param_groups[1]["params"], optimizer.param_groups[0]["params"]
    assert all(p.ndim > 1 for p in matrices) and all(p.ndim == 1 for p in others)
    assert len(matrices) + len(others) == len(list(model.parameters()))


def test_light_changes_as_a_whole_and_by_itself_in_each_image() -> None:
    images = torch.linspace(-0.5, 0.5, 64).view(1, 1, 8, 8).expand(200, 3, 8, 8)
    moved = relit(images, 0.1)
    assert moved.shape == images.shape and moved.abs().max() <= 1
    contrast = (moved - moved.mean(dim=(2, 3), keepdim=True)).norm(dim=(2, 3)) / images[0, 0].norm()
    assert 0.05 < contrast[:, 0].log().std() < 0.2
    torch.testing.assert_close(contrast[:, 0], contrast[:, 1], atol=0.1, rtol=0)  # but for clipping
    brightness = moved.mean(dim=(2, 3))
    assert 0.02 < brightness.std(dim=0).mean() < 0.2
    assert (brightness[:, 0] - brightness[:, 1]).abs().max() > 0.01, "a tint"


def test_the_best_weights_are_kept_and_not_the_last() -> None:
    class Spoilt(FactorEvaluator):
        """Forgets all that it has learnt after step 4."""

        def on_train_batch_end(self, outputs, batch, batch_idx) -> None:
            if self.global_step > 4:
                torch.nn.init.constant_(self.network.head.bias, 9.0)

    model = Spoilt(GRAPH, SMALL, warmup=0.05)
    _fit(model, 6, 2)
    assert model.best_step in (2, 4) and model.best_error < 0.5
    assert (model.best_weights["head.bias"] != 9).all()
    assert set(model.best_weights) == set(model.network.state_dict())


def test_every_parameter_is_trained_with_mixing_and_without(small_batch, graph) -> None:
    network = partial(LocalPosteriorProjector, channels=8, condition=8)
    for mixing in (RegionMixer(), None):
        model = FactorEvaluator(graph, network, mixing=mixing)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.loss(small_batch["image"], small_batch["factors"]).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_a_loss_that_is_not_finite_is_named(small_batch, graph) -> None:
    model = FactorEvaluator(graph, partial(LocalPosteriorProjector, channels=8, condition=8))
    batch = small_batch | {"image": small_batch["image"] * torch.inf}
    with pytest.raises(FloatingPointError, match="loss is nan at step 0"):
        model.training_step(batch, 0)
