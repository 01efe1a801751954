"""An evaluator for photographs: rare levels that count, and images that move."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation import FactorEvaluator
from diffcf.evaluation.evaluator.module import shifted
from diffcf.io import SettingsError
from diffcf.networks import GlobalPosteriorProjector, LocalPosteriorProjector, RegionMixer

GRAPH = CausalGraph([Factor("bald", "binary"), Factor("glasses", "binary")])
SMALL = partial(LocalPosteriorProjector, image_channels=1, channels=8, condition=8)


class Few(LightningDataModule):
    """Images that show nothing; one in eight is of a bald person, one in two has glasses."""

    def __init__(self) -> None:
        super().__init__()
        factors = (torch.arange(64)[:, None] % torch.tensor([8, 2]) == 0).float()
        self.rows = [
            {"image": torch.zeros(1, 16, 16), "factors": row, "index": torch.tensor(place)}
            for place, row in enumerate(factors)
        ]

    def factors_of(self, stage: str) -> Tensor:
        return torch.stack([row["factors"] for row in self.rows])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=16)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def trainer(steps: int) -> Trainer:
    return Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, num_sanity_val_steps=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def fitted(balance: float) -> FactorEvaluator:
    torch.manual_seed(0)
    model = FactorEvaluator(GRAPH, SMALL, learning_rate=0.01, warmup=0.1, balance=balance)
    trainer(60).fit(model, datamodule=Few())
    return model


def reading(model: FactorEvaluator) -> float:
    """The probability of being bald in an image that does not show it."""
    with torch.no_grad():
        return float(model.network(torch.zeros(1, 1, 16, 16), torch.zeros(1)).mean[0, 0])


def test_balance_teaches_both_levels_alike() -> None:
    assert reading(fitted(0.0)) == pytest.approx(1 / 8, abs=0.04)
    assert reading(fitted(1.0)) == pytest.approx(1 / 2, abs=0.06)


@pytest.mark.parametrize("balance, error", [(0.0, 1 / 8), (1.0, 1 / 2)])
def test_the_choice_of_weights_counts_both_levels_alike(balance: float, error: float) -> None:
    """Of a reader that takes no one for bald, and sees no glasses."""
    model = FactorEvaluator(GRAPH, SMALL, balance=balance)
    with torch.no_grad():
        model.network.head.bias[:2] = -5.0
    model.learning_rate = 1e-9
    trainer(4).fit(model, datamodule=Few())
    assert model.best_error == pytest.approx((error + 1 / 2) / 2, abs=1e-3)


def test_a_factor_counts_as_much_as_its_weight() -> None:
    """Of a reader that errs in 1/8 of one factor and in 1/2 of the other."""
    model = FactorEvaluator(GRAPH, SMALL, weights={"bald": 3.0})
    with torch.no_grad():
        model.network.head.bias[:2] = -5.0
    model.learning_rate = 1e-9
    trainer(4).fit(model, datamodule=Few())
    assert model.best_error == pytest.approx((3 / 8 + 1 / 2) / 4, abs=1e-3)
    # What does not count is not learned.
    only = FactorEvaluator(GRAPH, SMALL, weights={"bald": 0.0})
    with torch.no_grad():
        only.network.head.bias[:2] = -5.0
    batch = torch.rand(8, 1, 16, 16), torch.tensor([[0.0, 1.0]] * 8)
    other = batch[0], 1 - batch[1]
    assert only.loss(*batch) != only.loss(*other)
    half = batch[0], torch.tensor([[1.0, 1.0]] * 8)
    torch.testing.assert_close(only.loss(*batch), only.loss(*half))


def test_balance_needs_the_factors_of_all_training_images() -> None:
    model, data = FactorEvaluator(GRAPH, SMALL, balance=0.5), Few()
    with pytest.raises(SettingsError, match="give the Trainer a data module with factors_of"):
        trainer(1).fit(model, data.train_dataloader(), data.val_dataloader())


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"balance": 1.5}, r"balance must lie in \[0, 1\], not 1.5"),
        ({"balance": -1.0}, r"balance must lie in \[0, 1\], not -1.0"),
        ({"weights": {"bald": -1.0}}, "the weight of 'bald' must be a finite number from 0"),
        ({"weights": {"bald": 0.0, "glasses": 0.0}}, "weights leaves no factor to learn"),
        ({"light": -0.1}, "light must be a finite number from 0"),
        ({"muon": -0.1}, "muon must be a finite number from 0"),
        ({"shift": -1}, "shift must be at least 0 pixels, not -1"),
    ],
)
def test_numbers_outside_their_range_are_one_sentence(settings: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        FactorEvaluator(GRAPH, SMALL, **settings)


# --- shift ---


def placed(image: Tensor, down: int, right: int) -> Tensor:
    """An image ``[C, H, W]`` of which place (y, x) shows (y + down, x + right), or the edge."""
    rows = (torch.arange(image.shape[1]) + down).clamp(0, image.shape[1] - 1)
    columns = (torch.arange(image.shape[2]) + right).clamp(0, image.shape[2] - 1)
    return image[:, rows][:, :, columns]


def test_each_image_moves_by_whole_pixels_on_its_own() -> None:
    image = torch.rand(64, 2, 6, 9)
    moves = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    found = [
        [move for move in moves if torch.equal(after, placed(before, *move))]
        for before, after in zip(image, shifted(image, 2), strict=True)
    ]
    assert all(len(of_image) == 1 for of_image in found)
    assert {y for [(y, _)] in found} == {x for [(_, x)] in found} == set(range(-2, 3))
    assert len({move for [move] in found}) > 12, "down and across are drawn apart"


def test_by_nothing_nothing_moves() -> None:
    image = torch.rand(3, 1, 4, 4)
    assert torch.equal(shifted(image, 0), image)


def test_images_move_in_training_alone() -> None:
    still, moving = (FactorEvaluator(GRAPH, SMALL, shift=shift) for shift in (0, 3))
    for parameter in still.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    moving.load_state_dict(still.state_dict())
    batch = torch.rand(8, 1, 16, 16), torch.rand(8, 2).round()
    losses = {mode: [m.train(mode).loss(*batch) for m in (still, moving)] for mode in (False, True)}
    assert torch.equal(*losses[False]) and not torch.equal(*losses[True])


# --- the whole image ---


def test_it_reads_by_the_whole_image_and_then_mixes_nothing() -> None:
    network = partial(GlobalPosteriorProjector, image_channels=1, channels=[8, 16], condition=8)
    batch = torch.rand(8, 1, 16, 16), torch.rand(8, 2).round()
    model = FactorEvaluator(GRAPH, network)
    model.loss(*batch).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(SettingsError, match="one place for a whole image: set mixing to null"):
        FactorEvaluator(GRAPH, network, mixing=RegionMixer()).loss(*batch)
