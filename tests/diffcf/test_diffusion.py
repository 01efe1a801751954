from __future__ import annotations

import torch

from diffcf.diffusion import (
    add_noise,
    noise_level,
    prediction_from_velocity,
    signal_level,
    velocity,
)


def test_the_true_velocity_gives_back_image_and_noise_at_every_time() -> None:
    x, noise = torch.randn(2, 5, 3, 8, 8, dtype=torch.float64)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    x_t = add_noise(x, noise, t)
    prediction = prediction_from_velocity(velocity(x, noise, t), x_t, t)
    torch.testing.assert_close(prediction.denoised, x)
    torch.testing.assert_close(prediction.eps, noise)


def test_time_runs_from_the_image_to_pure_noise_at_constant_variance() -> None:
    t = torch.linspace(0, 1, 11)
    total = signal_level(t).square() + noise_level(t).square()
    torch.testing.assert_close(total, torch.ones_like(total))
    assert signal_level(t).flatten()[0] == 1
    assert signal_level(t).flatten()[-1].abs() < 1e-6
