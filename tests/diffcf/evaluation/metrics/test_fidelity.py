from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.evaluation.metrics.fidelity import (
    Change,
    Fidelity,
    mean_absolute_error,
    peak_signal_noise_ratio,
    structural_similarity,
)

GRAPH = CausalGraph([Factor("a"), Factor("b"), Factor("c")], [("a", "b")])


def _images(channels: int = 3, size: int = 16) -> tuple[Tensor, Tensor]:
    """12 smooth images, and noisy ones: the noise grows along the batch."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(12, channels, 4, 4, generator=generator) * 1.6 - 0.8
    exact = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    noise = torch.randn(exact.shape, generator=generator)
    return exact + torch.linspace(0.01, 0.15, 12).view(-1, 1, 1, 1) * noise, exact


# --- image by image ---


def test_equal_images() -> None:
    _, exact = _images()
    assert (peak_signal_noise_ratio(exact, exact) == 100).all()
    assert (mean_absolute_error(exact, exact) == 0).all()
    torch.testing.assert_close(structural_similarity(exact, exact), torch.ones(12))


def test_black_against_white() -> None:
    black, white = -torch.ones(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    assert mean_absolute_error(black, white).tolist() == [1, 1]
    torch.testing.assert_close(peak_signal_noise_ratio(black, white), torch.zeros(2))
    exact = torch.tensor([-1.0, 1.0]).repeat(8).expand(1, 1, 16, 16)
    assert structural_similarity(-exact, exact) < -0.8, "the negative of a picture"


def test_the_known_psnr_of_a_known_error() -> None:
    exact = torch.zeros(3, 3, 16, 16)
    shift = torch.tensor([0.2, 0.02, 2e-6]).view(-1, 1, 1, 1)
    expected = torch.tensor([20.0, 40.0, 100.0])
    torch.testing.assert_close(peak_signal_noise_ratio(exact + shift, exact), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 33])
def test_each_image_is_measured_as_torchmetrics_would_alone(channels: int, size: int) -> None:
    image, exact = _images(channels, size)
    psnr, ssim = peak_signal_noise_ratio(image, exact), structural_similarity(image, exact)
    assert psnr.shape == ssim.shape == (12,)
    assert psnr[0] > psnr[-1] and ssim[0] > ssim[-1], "worse where there is more noise"
    for k in range(0, 12, 5):
        pair = image[k : k + 1], exact[k : k + 1]
        alone = PeakSignalNoiseRatio(data_range=2.0)(*pair)
        torch.testing.assert_close(psnr[k], alone, atol=1e-4, rtol=0)
        alone = StructuralSimilarityIndexMeasure(data_range=(-1.0, 1.0))(*pair)
        torch.testing.assert_close(ssim[k], alone, atol=1e-5, rtol=0)


def test_ssim_does_not_mind_half_precision() -> None:
    image, exact = _images()
    half = structural_similarity(image.bfloat16(), exact.bfloat16())
    torch.testing.assert_close(half, structural_similarity(image, exact), atol=0.05, rtol=0)
    assert half.dtype == torch.float32


# --- the metric ---


def test_means_by_factor_over_roots_and_leaves() -> None:
    fidelity, exact = Fidelity(GRAPH), torch.zeros(1, 3, 16, 16)
    for column, shift in enumerate((0.2, 0.02, 0.0)):
        fidelity.update(exact + shift, exact, column)
    result = {name: round(value.item(), 3) for name, value in fidelity.compute().items()}
    assert [result[f"psnr/{name}"] for name in "abc"] == [20, 40, 100]
    assert result["psnr/roots"] == 20 and result["psnr/leaves"] == 70
    assert result["psnr"] == round(160 / 3, 3)
    assert [result[f"mae/{name}"] for name in "abc"] == [0.1, 0.01, 0]
    assert result["mae/leaves"] == 0.005
    assert result["ssim/c"] == 1 and result["ssim/roots"] < result["ssim/leaves"] < 1
    assert set(fidelity.intervals(resamples=10)) == set(result)


def test_psnr_is_a_mean_of_decibels() -> None:
    fidelity, exact = Fidelity(GRAPH), torch.zeros(2, 3, 16, 16)
    fidelity.update(exact + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1), exact, column=0)
    assert fidelity.compute()["psnr/a"].item() == pytest.approx(30, abs=1e-3)


# --- batches, processes, errors ---


def _fed(*batches: range) -> Fidelity:
    """12 images under an intervention on each factor, given batch by batch."""
    image, exact = _images()
    fidelity = Fidelity(GRAPH)
    for batch in batches:
        index = torch.tensor(list(batch))
        for column in range(3):
            rows = (index + column) % 12
            fidelity.update(image[rows], exact[rows], column, index)
    return fidelity


def test_batch_size_and_repeated_images_do_not_matter() -> None:
    parts = _fed(range(5), range(3, 11), range(11, 12))
    torch.testing.assert_close(parts.compute(), _fed(range(12)).compute())


def test_bad_input_is_named() -> None:
    image = torch.zeros(2, 3, 16, 16)
    for measure in (peak_signal_noise_ratio, mean_absolute_error, structural_similarity):
        with pytest.raises(ValueError, match=r"got \(2, 3, 16, 16\) and \(2, 1, 16, 16\)"):
            measure(image, image[:, :1])
    with pytest.raises(ValueError, match="6 pixels or more a side, got 16 x 5"):
        Fidelity(GRAPH).update(image[..., :5], image[..., :5], column=0)
    assert structural_similarity(image[..., :6, :6], image[..., :6, :6]).shape == (2,)
    with pytest.raises(ValueError, match="Fidelity met a value that is NaN or infinite"):
        Fidelity(GRAPH).update(image * torch.nan, image, column=0)
    with pytest.raises(ValueError, match="Fidelity has seen no image"):
        Fidelity(GRAPH).compute()


@pytest.mark.parametrize(
    ("rows", "columns", "change", "border"),
    [
        (slice(0, 16), slice(0, 16), 0.25, 0.25),
        (slice(2, 14), slice(2, 14), 0.25 * 144 / 256, 0.0),
        (slice(0, 2), slice(0, 16), 0.25 * 32 / 256, 0.25 * 32 / 112),
    ],
)
def test_what_changes_at_the_border_is_told_apart(
    rows: slice, columns: slice, change: float, border: float
) -> None:
    metric, factual = Change(CausalGraph([Factor("a")])), torch.zeros(2, 3, 16, 16)
    image = factual.clone()
    image[..., rows, columns] = 0.5
    metric.update(image, factual, column=0)
    result = {name: float(value) for name, value in metric.compute().items()}
    assert result["change/a"] == pytest.approx(change)
    assert result["border_change/a"] == pytest.approx(border)
