"""The fast average of weights is Lightning's, and goes on from its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diffcf.training import ForeachEMA


class Small(LightningModule):
    """A convolution and a normalisation, whose buffers count batches and keep statistics."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten())
            self.head = nn.Linear(8 * 4, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.head(self.layers(batch)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.02)

    def train_dataloader(self) -> DataLoader[Tensor]:
        images = torch.rand(6, 5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(images, batch_size=None)  # type: ignore[arg-type]


def trained(
    folder: Path, average: type[EMAWeightAveraging], epochs: int, buffers: bool, ckpt: str | None
) -> dict[str, Tensor]:
    """Weights and average after so many epochs in all; the checkpoint is ``folder/it.ckpt``."""
    keep = ModelCheckpoint(folder, "it", enable_version_counter=False)
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[average(decay=0.9, use_buffers=buffers), keep],
    )  # fmt: skip
    trainer.fit(Small(), ckpt_path=ckpt, weights_only=True)
    held = torch.load(folder / "it.ckpt", weights_only=True)
    weights = {f"current {n}": v for n, v in held["current_model_state"].items()}
    assert held["callbacks"]["EMAWeightAveraging"] == {"latest_update_step": 6 * epochs}
    return held["state_dict"] | weights | held["averaging_state"]


@pytest.mark.parametrize("buffers", [False, True])
def test_averages_are_lightnings_and_either_goes_on_from_the_other(
    tmp_path: Path, buffers: bool
) -> None:
    def whole(average: type[EMAWeightAveraging]) -> dict[str, Tensor]:
        return trained(tmp_path / average.__name__, average, 2, buffers, None)

    expected = whole(EMAWeightAveraging)
    assert int(expected["n_averaged"]) == 12
    assert not torch.equal(expected["head.weight"], expected["current head.weight"])
    found = [whole(ForeachEMA)]
    for first, second in [(EMAWeightAveraging, ForeachEMA), (ForeachEMA, EMAWeightAveraging)]:
        folder = tmp_path / f"{first.__name__} first"
        trained(folder, first, 1, buffers, None)
        found.append(trained(folder, second, 2, buffers, str(folder / "it.ckpt")))
    for values in found:
        assert values.keys() == expected.keys()
        for name, value in values.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7, msg=name)


def test_the_average_ends_as_the_model() -> None:
    model = Small()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[ForeachEMA(decay=1.0)],
    )  # fmt: skip
    seen = []
    step = model.training_step

    def watched(batch: Tensor, batch_idx: int) -> Tensor:
        seen.append(model.head.weight.detach().clone())
        return step(batch, batch_idx)

    model.training_step = watched  # type: ignore[method-assign]
    trainer.fit(model)
    assert torch.equal(model.head.weight, seen[1]), "the first step's, which nothing moves"


# --- constants ---


class Filled(Small):
    """A model with two buffers that it counts in; checkpoints hold one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(()))
        self.register_buffer("constant", torch.zeros(()), persistent=False)
        self.seen: list[tuple[float, float]] = []

    def on_fit_start(self) -> None:
        self.constant.fill_(7.0)  # after the average was made

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        self.kept += 1

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.seen.append((float(self.kept), float(self.constant)))

    val_dataloader = Small.train_dataloader


@pytest.mark.parametrize("average", [ForeachEMA, EMAWeightAveraging])
def test_constants_are_the_models_own_and_what_checkpoints_hold_follows_it(
    average: type[EMAWeightAveraging],
) -> None:
    model = Filled()
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
        limit_val_batches=1, callbacks=[average(decay=0.9, use_buffers=False)],
    )  # fmt: skip
    trainer.fit(model)
    assert model.seen == [(6.0, 7.0), (12.0, 7.0)]
    assert (float(model.kept), float(model.constant)) == (12.0, 7.0)


def test_after_the_first_step_constants_are_not_copied_again() -> None:
    copied = []
    foreach = torch._foreach_copy_

    def watched(copies: list[Tensor], originals: list[Tensor]) -> None:
        copied.append(len(copies))
        foreach(copies, originals)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", watched)
        trainer = Trainer(
            max_steps=3, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
            callbacks=[ForeachEMA(decay=0.9, use_buffers=False)],
        )  # fmt: skip
        trainer.fit(Filled())
    held = len(Filled().state_dict()) - len(list(Filled().parameters()))
    assert copied[1:] == [held, held] and copied[0] > held
