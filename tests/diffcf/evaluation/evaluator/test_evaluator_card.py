"""The errors on a card: hand-made, between processes, and of a reader that is never wrong."""

from __future__ import annotations

import pytest
import torch

from data_modules.pendulum import PendulumDataModule
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.commands.evaluator_card import card_markdown
from diffcf.evaluation.evaluator.reading_error import (
    ReadingError,
    measure_readings,
    reading_error,
)

GRAPH = CausalGraph(
    [
        Factor("size"),
        Factor("colour", "categorical", categories=("red", "green", "blue")),
        Factor("lit", "binary"),
    ]
)


class RulerReader:
    """Reads by the scene's own instrument, with a mistake: shadows are where they always are."""

    def __init__(self, data: PendulumDataModule, natural: bool = False) -> None:
        self.scene, self.graph, self.natural = data.scene, data.graph, natural
        self.image_shape = (3, data.image_size, data.image_size)

    def read(self, images: torch.Tensor) -> torch.Tensor:
        read = self.scene.read(images)
        if not self.natural:
            return read
        grid = self.scene.published_grid()[0].to(read)  # the shadow of the nearest angle and light
        return grid[torch.cdist(read[:, :2], grid[:, :2]).argmin(dim=1)]


@pytest.fixture(scope="module")
def data() -> PendulumDataModule:
    module = PendulumDataModule(image_size=64, train_size=64, val_size=24, test_size=48)
    module.setup()
    return module


def test_a_hand_made_case() -> None:
    read = torch.tensor([[0.4, 0.5, 0.5], [1.0, 0.0, 0.1]])
    factors = torch.tensor([[0.5, 0.5, 1.0], [0.7, 1.0, 1.0]])
    expected = torch.tensor([[0.1, 0.0, 0.0], [0.3, 1.0, 1.0]])
    torch.testing.assert_close(reading_error(read, factors, GRAPH), expected)
    error = ReadingError(GRAPH)
    error.update(read, factors)
    result = {name: round(value.item(), 4) for name, value in error.compute().items()}
    assert result == {"error": 0.4, "error/size": 0.2, "error/colour": 0.5, "error/lit": 0.5}


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    read, factors = torch.rand(2, 21, 3, generator=torch.Generator().manual_seed(5))
    return read, factors.round()


def test_batch_size_does_not_matter_and_an_image_counts_once() -> None:
    read, factors = _data()
    whole, parts = ReadingError(GRAPH), ReadingError(GRAPH)
    whole.update(read, factors)
    for rows in (*torch.arange(21).split(4), torch.arange(2)):
        parts.update(read[rows], factors[rows], rows)
    assert parts.compute() == whole.compute()


def test_a_perfect_reader_has_no_error_anywhere(data: PendulumDataModule) -> None:
    result = measure_readings(RulerReader(data), data)
    for errors in (result["test"], result["validation"], *result["counterfactual"].values()):
        assert set(errors) == {"error", *(f"error/{name}" for name in data.graph.names)}
    assert result["counterfactual_roots"] < 0.005 and result["counterfactual_leaves"] < 0.005


def test_a_reader_of_short_cuts_is_found_out_on_leaves_only(data: PendulumDataModule) -> None:
    result = measure_readings(RulerReader(data, natural=True), data)
    assert result["test"]["error"] < 0.02
    assert result["counterfactual"]["angle"]["error"] < 0.02
    assert result["counterfactual"]["shadow_length"]["error/shadow_length"] > 0.1
    assert result["counterfactual_leaves"] > 0.1


def test_without_exact_counterfactuals_the_card_says_unknown(data: PendulumDataModule) -> None:
    scene, reader = data.scene, RulerReader(data)
    try:
        data.scene = None
        result = measure_readings(reader, data)
        assert "no scene" in result["counterfactual"]
        assert "counterfactual_leaves" not in result
        data.scene = type("Chancy", (type(scene),), {"identified": False})()
        assert "mechanisms are random" in measure_readings(reader, data)["counterfactual"]
    finally:
        data.scene = scene
    origin = {"steps": 3, "seconds": 1.0, "device": "one core", "seed": "7", "selected_step": 2}
    card = {
        "data": "PendulumDataModule",
        "image_shape": [3, 64, 64],
        "images": {"train": 64, "validation": 24, "test": 48},
        **result,
        "training": origin,
        "parameters": 1234,
        "versions": {"torch": "2"},
    }
    text = card_markdown(card)
    assert "The error on counterfactual images is unknown: these data have no scene" in text
    assert "do(" not in text and " test (48 images) |" in text


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="seen no image"):
        ReadingError(GRAPH).compute()
    with pytest.raises(ValueError, match="NaN or infinite"):
        ReadingError(GRAPH).update(torch.full((1, 3), torch.nan), torch.zeros(1, 3))
