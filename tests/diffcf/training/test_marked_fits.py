"""Fits on rows that somebody set and rows without labels, of ours and of its peers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from built_methods import METHODS, built
from lightning.pytorch import LightningModule, Trainer

from data_modules import PendulumDataModule
from diffcf.causal import BalanceOf
from diffcf.evaluation.evaluator.module import FactorEvaluator
from diffcf.io import SettingsError
from diffcf.methods import DiffusionCounterfactuals
from diffcf.networks import GlobalPosteriorProjector

FEW = {"train_size": 48, "val_size": 8, "test_size": 8, "batch_size": 8, "eval_batch_size": 8}


def data(**settings: Any) -> PendulumDataModule:
    return PendulumDataModule(image_size=32, labels=0.3, interventional=8, **FEW | settings)


def fit(model: LightningModule, module: PendulumDataModule, steps: int = 4) -> dict[str, Any]:
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, module)
    return dict(trainer.callback_metrics)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("name", ["ours", "causal_vae", "hvae_dscm", "classifier_free"])
def test_a_method_fits_both(name: str, resident: bool) -> None:
    module = data(resident=resident)
    model, _ = built(METHODS[0].with_stem(name), module.graph)
    model.finetune = 0.5  # of the peer that draws counterfactuals at last
    if name == "ours":
        model.pseudo_labels, model.head_start = 0.3, 0.3
    before = {key: value.clone() for key, value in model.state_dict().items()}
    metrics = fit(model, module)
    assert metrics and all(value.isfinite() for value in metrics.values())
    for network, _ in model.networks():
        moved = (k for k, v in model.state_dict().items() if not torch.equal(v, before[k]))
        assert any(key.startswith(f"{network}.") for key in moved), network


@pytest.mark.parametrize("of", ["levels", "combinations"])
def test_what_is_rare_is_balanced_over_the_labels_that_are_there(of: BalanceOf) -> None:
    module = data()
    model, _ = built(METHODS[0].with_stem("ours"), module.graph)
    model.balance, model.balance_of = 1.0, of
    assert all(value.isfinite() for value in fit(model, module, 2).values())


def test_the_evaluator_leaves_missing_labels_out() -> None:
    module = data()
    network = partial(GlobalPosteriorProjector, channels=[8, 16])
    model = FactorEvaluator(module.graph, network)
    assert all(value.isfinite() for value in fit(model, module).values())
    image, factors = torch.rand(4, 3, 32, 32), torch.rand(4, 4)
    nothing = torch.full_like(factors, torch.nan)
    assert model.loss(image, nothing, partial=True) == 0


@pytest.mark.parametrize("sure", [-1.0, float("inf")])
def test_a_deviation_outside_its_range_is_one_sentence(sure: float) -> None:
    graph = data().graph
    with pytest.raises(SettingsError, match="pseudo_labels must be a finite number from 0"):
        DiffusionCounterfactuals(graph, pseudo_labels=sure)


def test_balance_needs_the_factors_of_all_training_images() -> None:
    module = data()
    module.setup("fit")
    model, _ = built(METHODS[0].with_stem("ours"), module.graph)
    model.balance = 1.0
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(SettingsError, match="module with factors_of, or set balance 0"):
        trainer.fit(model, module.train_dataloader())
