from __future__ import annotations

import torch

from diffcf.diffusion.process import (
    add_noise,
    leaky_noise,
    noise_level,
    prediction_from_velocity,
    signal_level,
    stratified_times,
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


def test_leaky_noise_is_gaussian_weaker_or_holds_a_copy_of_another_image() -> None:
    image = torch.zeros(400, 1, 8, 8)
    image[::2, :, :4] = 1.0
    image[1::2, :, 4:] = 1.0
    torch.manual_seed(1)
    plain = leaky_noise(image, 0.0)
    assert abs(plain.std().item() - 1) < 0.02
    noise = leaky_noise(image, 0.5)
    spread = noise.flatten(1).std(dim=1)
    assert (spread < 0.7).float().mean() > 0.2, "weaker"
    assert (spread > 0.8).float().mean() > 0.4, "as strong as ever"
    pattern = image - image.mean(dim=0)
    copy = (noise * pattern).sum(dim=(1, 2, 3)) / pattern.square().sum(dim=(1, 2, 3))
    assert copy.abs().max() > 0.3
    assert abs(copy.mean().item()) < 0.1, "of another image, as often as of the same kind"


def test_times_are_spread_evenly_and_shuffled() -> None:
    t = stratified_times(torch.zeros(64, 1))
    assert ((t.sort().values * 64).floor() == torch.arange(64)).all()
    assert not (t.diff() > 0).all()
