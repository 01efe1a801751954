"""Morpho-MNIST's true model: its mechanism, its ruler, and an evaluation that draws nothing."""

from __future__ import annotations

import pytest
import torch
from morpho_files import draw_strokes, sample_factors
from torch import Tensor
from torch.nn.functional import pad

from data_modules.morphomnist import published_graph
from data_modules.scenes.morphomnist import (
    MorphoMNIST,
    abducted_noise,
    published_intensity,
)
from diffcf.causal import Scene
from diffcf.evaluation import CounterfactualEvaluation, DoNothing, EvaluationProtocol
from diffcf.io import from_bytes
from diffcf.io.errors import DataError


def shown(thickness: Tensor, intensity: Tensor, digit: Tensor) -> Tensor:
    """Images uint8 ``[N, 1, 32, 32]``."""
    return pad(draw_strokes(thickness, intensity, digit), (2, 2, 2, 2))[:, None]


@pytest.fixture(name="model", scope="module")
def _model() -> MorphoMNIST:
    model, native = MorphoMNIST(published_graph()), sample_factors(120)
    factors = model.graph.to_scaled(torch.stack(native, dim=1))
    model.calibrate(shown(*native), factors.float())
    return model


def some_factors(model: MorphoMNIST, count: int = 12) -> Tensor:
    return model.graph.to_scaled(torch.stack(sample_factors(count, seed=5), dim=1)).float()


def only(name: str, factors: Tensor, model: MorphoMNIST) -> Tensor:
    mask = torch.zeros_like(factors, dtype=torch.bool)
    mask[:, model.graph.column(name)] = True
    return mask


def test_the_published_equation_is_inverted() -> None:
    thickness, noise = torch.linspace(1, 5, 9), torch.linspace(-2, 2, 9)
    intensity = published_intensity(thickness.double(), noise.double())
    torch.testing.assert_close(abducted_noise(thickness.double(), intensity), noise.double())


def test_nothing_set_changes_nothing(model: MorphoMNIST) -> None:
    factors = some_factors(model)
    mask = torch.zeros_like(factors, dtype=torch.bool)
    assert torch.equal(model.counterfactual(factors, torch.rand_like(factors), mask), factors)


def test_intensity_follows_thickness_with_its_own_noise(model: MorphoMNIST) -> None:
    factors = some_factors(model)
    native = model.graph.to_native(factors)
    values = torch.full_like(factors, 0.3)
    answer = model.counterfactual(factors, values, only("thickness", factors, model))
    noise = abducted_noise(native[:, 0], native[:, 1])
    expected = published_intensity(torch.tensor(0.5 + 0.3 * 6.5), noise)
    torch.testing.assert_close(model.graph.to_native(answer)[:, 1], expected, atol=0.01, rtol=0)
    assert torch.equal(answer[:, 2], factors[:, 2]) and (answer[:, 0] == 0.3).all()
    back = model.counterfactual(answer, factors, only("thickness", factors, model))
    torch.testing.assert_close(back, factors, atol=1e-4, rtol=0)


def test_what_is_set_has_no_causes(model: MorphoMNIST) -> None:
    factors, values = some_factors(model), torch.full((12, 3), 0.5)
    answer = model.counterfactual(factors, values, only("intensity", factors, model))
    assert torch.equal(answer[:, [0, 2]], factors[:, [0, 2]]) and (answer[:, 1] == 0.5).all()
    both = only("intensity", factors, model) | only("thickness", factors, model)
    assert (model.counterfactual(factors, values, both)[:, :2] == 0.5).all()


def test_the_ruler_reads_what_was_drawn(model: MorphoMNIST) -> None:
    native = sample_factors(40, seed=9)
    error = model.read(from_bytes(shown(*native))) - model.graph.to_scaled(torch.stack(native, 1))
    thickness, intensity, digit = error.abs().unbind(1)
    assert thickness.mean() < 0.02 and intensity.mean() < 0.01 and (digit < 1e-4).all()
    assert tuple(model.reading_error(32)) == model.graph.names
    assert all(0 <= value < 0.02 for value in model.reading_error(32).values())


def test_thicker_reads_thicker_and_brighter_brighter(model: MorphoMNIST) -> None:
    steps, digit = torch.linspace(0, 1, 6), torch.full((6,), 3)
    thicker = model.read(from_bytes(shown(3 + 2 * steps, torch.full((6,), 180.0), digit)))
    brighter = model.read(from_bytes(shown(torch.full((6,), 4.0), 80 + 170 * steps, digit)))
    assert (thicker[:, 0].diff() > 0).all() and (brighter[:, 1].diff() > 0).all()
    assert thicker[:, 1].std() < 0.01 and brighter[:, 0].std() < 0.01, "neither moves the other"


def test_what_shows_nothing_reads_nothing(model: MorphoMNIST) -> None:
    assert (model.read(torch.full((2, 1, 32, 32), -1.0)) == 0).all()
    assert model.read(torch.full((1, 1, 32, 32), torch.nan)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 28, 28), (1, 1, 32, 28)])
def test_other_images_are_refused(model: MorphoMNIST, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"read"):
        model.read(torch.zeros(shape))


def test_a_ruler_needs_images() -> None:
    model = MorphoMNIST(published_graph())
    with pytest.raises(DataError, match="no images yet"):
        model.read(torch.zeros(1, 1, 32, 32))
    with pytest.raises(DataError, match="8 training images"):
        model.calibrate(torch.zeros(3, 1, 32, 32).byte(), torch.zeros(3, 3))


def test_targets_are_the_true_models_where_nothing_can_be_drawn(model: MorphoMNIST) -> None:
    native = sample_factors(16, seed=7)
    factors = model.graph.to_scaled(torch.stack(native, dim=1)).float()
    protocol = EvaluationProtocol(steps=2, cycles=2, resamples=10)
    evaluation = CounterfactualEvaluation(model.graph, factors, protocol, model)
    image = from_bytes(shown(*native))
    evaluation.update(DoNothing(model.graph), image, torch.arange(16))
    metrics = evaluation.compute()
    record = evaluation.record(metrics)
    assert not isinstance(model, Scene) and record["target"] == "scene"
    assert not [key for key in metrics if key.startswith(("psnr/thick", "exact/", "minimality"))]
    do = evaluation.plan.single["thickness"]
    target = model.counterfactual(factors, do.values, do.mask)
    missed = (model.read(image) - target).abs().mean(0)
    assert metrics["acm/thickness/intensity"] == pytest.approx(float(missed[1]), abs=1e-5)
    assert metrics["do_nothing/acm"] == metrics["acm"]
