r"""Deterministic diffusion paths, as pure functions of a denoiser.

A sampler knows nothing of guidance or factors: those are inside the denoiser it is given. Running
a path forwards and then backwards with the same denoiser returns (nearly) the same image, which is
how the noise x_T of a given image is abducted.

Reference:
    Denoising Diffusion Implicit Models, eq. 12 (Song et al., 2021), https://arxiv.org/abs/2010.02502
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from diffcf.diffusion import Denoiser, add_noise

__all__ = ["ddim_invert", "ddim_sample", "time_grid"]


def time_grid(steps: int, t_max: float = 1.0, device: torch.device | None = None) -> Tensor:
    """``steps + 1`` times from 0 to ``t_max``, evenly spaced.

    Raises:
        ValueError: for fewer than one step, or ``t_max`` outside (0, 1].
    """
    if steps < 1 or not 0.0 < t_max <= 1.0:
        raise ValueError(f"Take at least 1 step and 0 < t_max <= 1, got {steps} and {t_max}.")
    return torch.linspace(0.0, t_max, steps + 1, device=device)


def ddim_invert(denoiser: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    """The noisy image at ``times[-1]`` from which sampling returns ``x`` ``[B, C, H, W]``."""
    return _follow(denoiser, x, times)


def ddim_sample(denoiser: Denoiser, x_t: Tensor, times: Tensor) -> Tensor:
    """The clean image from ``x_t`` ``[B, C, H, W]`` at ``times[-1]``."""
    return _follow(denoiser, x_t, times.flip(0))


def _follow(denoiser: Denoiser, x_t: Tensor, times: Tensor) -> Tensor:
    batch = x_t.shape[0]
    for now, then in pairwise(times):
        denoised, eps = denoiser(x_t, now.expand(batch))
        x_t = add_noise(denoised, eps, then.expand(batch))
    return x_t
