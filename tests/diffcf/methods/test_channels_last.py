"""Weights in the order that tensor cores want: the same model, in the same checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from data_modules import PendulumDataModule
from diffcf.causal import CausalGraph
from diffcf.methods import DiffusionCounterfactuals
from diffcf.training import ForeachEMA, LastCheckpoint

LAST = torch.channels_last


def model(**settings: Any) -> DiffusionCounterfactuals:
    torch.manual_seed(0)
    networks = {
        "generator": {"class_path": "diffcf.networks.UNet",
                      "init_args": {"channels": [8, 16], "condition": 16}},
        "projector": {"class_path": "diffcf.networks.LocalPosteriorProjector",
                      "init_args": {"channels": 8}},
    }  # fmt: skip
    graph: CausalGraph = PendulumDataModule().graph
    return DiffusionCounterfactuals(graph, **networks, **settings)


def fit(folder: Path, steps: int, last: bool, resume: bool = False) -> dict[str, Any]:
    """A training up to ``steps``; returns its checkpoint."""
    data = PendulumDataModule(
        32, batch_size=8, train_size=24, val_size=2, test_size=2, resident=True
    )
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, limit_val_batches=0,
        callbacks=[ForeachEMA(decay=0.9, use_buffers=False), LastCheckpoint(str(folder))],
    )  # fmt: skip
    made = model(channels_last=last)
    torch.manual_seed(steps)
    path = str(folder / "last.ckpt") if resume else None
    trainer.fit(made, datamodule=data, ckpt_path=path, weights_only=True)
    states = trainer.optimizers[0].state
    assert all(state["exp_avg"].stride() == p.stride() for p, state in states.items())
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_losses_and_gradients_are_the_same() -> None:
    data = PendulumDataModule(32, batch_size=8, train_size=8, val_size=2, test_size=2)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    plain, last = model(), model(channels_last=True)
    kernel = next(p for p in last.generator.parameters() if p.dim() == 4 and p.shape[-1] > 1)  # type: ignore[attr-defined]
    assert kernel.is_contiguous(memory_format=LAST) and not kernel.is_contiguous()
    found = []
    for made in (plain, last):
        torch.manual_seed(1)
        terms = made.losses(batch["image"], batch["factors"])
        made.total(terms).backward()
        found.append(terms)
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-5, msg=name)
    for (name, a), b in zip(plain.named_parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_either_goes_on_from_the_others_checkpoint(tmp_path: Path) -> None:
    fit(tmp_path / "plain", 1, False)
    plain = fit(tmp_path / "plain", 2, False, resume=True)
    for first in (False, True):
        folder = tmp_path / f"{first} first"
        fit(folder, 1, first)
        other = fit(folder, 2, not first, resume=True)
        tensors = [*other["state_dict"].values(), *other["current_model_state"].values()]
        assert all(value.is_contiguous() for value in tensors)
        for name, value in plain["state_dict"].items():
            torch.testing.assert_close(
                other["state_dict"][name], value, rtol=1e-3, atol=1e-4, msg=name
            )


def test_the_rate_scale_multiplies_every_rate() -> None:
    made = model(rate_scale=2.0, learning_rate=1e-3, projector_learning_rate=3e-3)
    made.trainer = Trainer(accelerator="cpu", logger=False)
    groups = made.configure_optimizers()["optimizer"].param_groups  # type: ignore[index, call-overload]
    assert {group["initial_lr"] for group in groups} == {2e-3, 6e-3}
    with pytest.raises(ValueError, match="rate_scale"):
        model(rate_scale=-1.0)
