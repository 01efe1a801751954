from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffcf.diffusion import Prediction, add_noise, noise_level, signal_level
from diffcf.sampling import ddim_invert, ddim_sample, time_grid


def gaussian_denoiser(mean: float, std: float):
    """The exact denoiser of images whose pixels are N(mean, std²)."""

    def denoise(x_t: Tensor, t: Tensor) -> Prediction:
        signal, noise = signal_level(t), noise_level(t)
        total = (signal * std) ** 2 + noise**2
        denoised = mean + signal * std**2 / total * (x_t - signal * mean)
        eps = noise / total * (x_t - signal * mean)
        return Prediction(denoised, eps)

    return denoise


def test_sampling_turns_noise_into_the_data_distribution() -> None:
    denoiser = gaussian_denoiser(0.3, 0.5)
    x = ddim_sample(denoiser, torch.randn(64, 1, 16, 16), time_grid(200))
    assert abs(x.mean().item() - 0.3) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02


def test_inversion_then_sampling_returns_the_image_and_finer_steps_return_it_better() -> None:
    denoiser, x = gaussian_denoiser(0.0, 0.5), torch.randn(4, 1, 8, 8) * 0.5
    errors = []
    for steps in (20, 80, 320):
        times = time_grid(steps)
        back = ddim_sample(denoiser, ddim_invert(denoiser, x, times), times)
        errors.append((back - x).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_a_denoiser_that_knows_the_image_draws_it_from_anywhere() -> None:
    x = torch.rand(2, 3, 8, 8)

    def oracle(x_t: Tensor, t: Tensor) -> Prediction:
        return Prediction(x, (x_t - signal_level(t) * x) / noise_level(t).clamp_min(1e-6))

    start = add_noise(x, torch.randn_like(x), torch.full((2,), 0.7))
    torch.testing.assert_close(ddim_sample(oracle, start, time_grid(5, 0.7)), x)


@pytest.mark.parametrize(("steps", "t_max"), [(0, 1.0), (5, 0.0), (5, 1.1)])
def test_impossible_grids_are_refused(steps: int, t_max: float) -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        time_grid(steps, t_max)
