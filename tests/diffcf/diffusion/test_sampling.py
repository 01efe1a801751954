from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffcf.diffusion.process import Prediction, add_noise
from diffcf.diffusion.sampling import Inversion, invert, sample, time_grid


def gaussian_denoiser(mean: float, std: float):
    """The exact denoiser of images whose pixels are N(mean, std²)."""

    def denoise(x_t: Tensor, time: float) -> Prediction:
        signal, noise = math.cos(math.pi / 2 * time), math.sin(math.pi / 2 * time)
        total = (signal * std) ** 2 + noise**2
        denoised = mean + signal * std**2 / total * (x_t - signal * mean)
        eps = noise / total * (x_t - signal * mean)
        return Prediction(denoised, eps)

    return denoise


@pytest.mark.parametrize("order", [1, 2])
def test_sampling_turns_noise_into_the_data_distribution(order: int) -> None:
    start = Inversion(torch.randn(64, 1, 16, 16), time_grid(200))
    x = sample(gaussian_denoiser(0.3, 0.5), start, order)
    assert abs(x.mean().item() - 0.3) < 0.02
    assert abs(x.std().item() - 0.5) < 0.02


@pytest.mark.parametrize("order", [1, 2])
def test_inversion_then_sampling_returns_the_image_and_finer_steps_return_it_better(
    order: int,
) -> None:
    denoiser, x = gaussian_denoiser(0.0, 0.5), torch.randn(4, 1, 8, 8) * 0.5
    errors = []
    for steps in (20, 80, 320):
        path = invert(denoiser, x, time_grid(steps), order)
        errors.append((sample(denoiser, path, order) - x).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_the_second_order_gains_a_digit_where_the_first_gains_half() -> None:
    # The flow of a Gaussian is known: x_T = x / std, the noise that belongs to x.
    denoiser, x = gaussian_denoiser(0.0, 0.5), torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    gains = {}
    for order in (1, 2):
        errors = [
            (sample(denoiser, Inversion(x / 0.5, time_grid(n)), order) - x).abs().max().item()
            for n in (20, 80)
        ]
        gains[order] = math.log(errors[0] / errors[1], 4)
    assert gains[1] == pytest.approx(1.0, abs=0.2)
    assert gains[2] == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_an_anchored_path_returns_the_image_in_any_number_of_steps(order: int, steps: int) -> None:
    x, mixing = torch.rand(4, 1, 8, 8), torch.randn(64, 64) / 8

    def denoise(x_t: Tensor, time: float) -> Prediction:  # sure of nothing, right about nothing
        v = (x_t.flatten(1) @ mixing).sin().view_as(x_t)
        signal, noise = math.cos(math.pi / 2 * time), math.sin(math.pi / 2 * time)
        return Prediction(signal * x_t - noise * v, noise * x_t + signal * v)

    times = time_grid(steps)
    loose = sample(denoise, invert(denoise, x, times, order), order)
    assert (loose - x).abs().max() > 0.01
    held = sample(denoise, invert(denoise, x, times, order, anchored=True), order)
    torch.testing.assert_close(held, x)


def test_a_correction_fades_where_another_image_is_drawn() -> None:
    x = torch.zeros(1, 1, 4, 4)

    def wrong(x_t: Tensor, time: float) -> Prediction:  # sees a grey image where there is none
        signal, noise = math.cos(math.pi / 2 * time), math.sin(math.pi / 2 * time)
        return Prediction(torch.full_like(x_t, 0.5), (x_t - 0.5 * signal) / max(noise, 1e-6))

    path = invert(wrong, x, time_grid(1), anchored=True)

    def other(x_t: Tensor, time: float) -> Prediction:
        prediction = wrong(x_t, time)
        denoised = prediction.denoised.clone()
        denoised[..., :2] = -1.0  # the left half is to change
        return Prediction(denoised, prediction.eps)

    drawn = sample(other, path)
    torch.testing.assert_close(drawn[..., 2:], x[..., 2:])
    torch.testing.assert_close(drawn[..., :2], torch.full((1, 1, 4, 2), -1.0))


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_an_anchor_costs_no_evaluation(anchored: bool, steps: int) -> None:
    inner, asked = gaussian_denoiser(0.0, 0.5), []

    def denoise(x_t: Tensor, time: float) -> Prediction:
        asked.append(time)
        return inner(x_t, time)

    path = invert(denoise, torch.rand(1, 1, 4, 4), time_grid(steps), anchored=anchored)
    assert len(asked) == steps
    assert len(path.corrections) == (steps if anchored else 0)


def test_a_guide_is_asked_where_the_path_is_and_moves_the_image() -> None:
    denoiser, asked = gaussian_denoiser(0.0, 0.5), []

    def guide(x_t: Tensor, time: float) -> Tensor | None:
        asked.append(time)
        return -torch.ones_like(x_t) if time < 0.3 else None

    start = Inversion(torch.randn(2, 1, 4, 4), time_grid(4))
    plain, guided = sample(denoiser, start), sample(denoiser, start, guide=guide)
    assert asked == [1.0, 0.75, 0.5, 0.25]
    # Less noise in the same x_t is more image: at t = 0.25 by its whole noise-to-signal ratio.
    torch.testing.assert_close(guided - plain, torch.full_like(plain, math.tan(math.pi / 8)))


def test_a_denoiser_that_knows_the_image_draws_it_from_anywhere() -> None:
    x = torch.rand(2, 3, 8, 8)

    def oracle(x_t: Tensor, time: float) -> Prediction:
        signal, noise = math.cos(math.pi / 2 * time), math.sin(math.pi / 2 * time)
        return Prediction(x, (x_t - signal * x) / max(noise, 1e-6))

    start = add_noise(x, torch.randn_like(x), torch.full((2,), 0.7))
    torch.testing.assert_close(sample(oracle, Inversion(start, time_grid(5, 0.7))), x)


@pytest.mark.parametrize(("steps", "t_max"), [(0, 1.0), (5, 0.0), (5, 1.1)])
def test_impossible_grids_are_refused(steps: int, t_max: float) -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        time_grid(steps, t_max)


def test_spacing_crowds_the_times_near_the_image() -> None:
    even, crowded = time_grid(8), time_grid(8, spacing=1.2)
    assert crowded[0] == 0.0 and crowded[-1] == 1.0
    gaps = [later - sooner for sooner, later in pairwise(crowded)]
    assert gaps == sorted(gaps) and gaps[0] < even[1]
    for spacing in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="spacing of times"):
            time_grid(8, spacing=spacing)
