"""What a diffusion generator is trained on, ours and that of every peer alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.diffusion.process import add_noise, velocity


def velocity_loss(
    generator: Any, image: Tensor, noise: Tensor, t: Tensor, *condition: Tensor | None
) -> Tensor:
    """Mean squared error of the predicted velocity, scalar.

    It is taken in units of what is left to learn at each t, so that every t counts alike: without
    it the high noise levels, where the factors decide what is drawn, would weigh a tenth.

    Args:
        generator: ``(x_t, t, *condition) -> v``, with ``residual_scale``.
        image: clean images ``[B, C, H, W]``.
        noise: like ``image``.
        t: ``[B]`` in [0, 1].
        condition: what the generator is told.
    """
    v = generator(add_noise(image, noise, t), t, *condition)
    error = (v.float() - velocity(image, noise, t)) / generator.residual_scale(t)
    return error.square().mean()


def drop_factors(factors: Tensor, factor_dropout: float, all_dropout: float) -> Tensor:
    """Which factors the generator is told, ``[B, K]`` bool, of ``factors`` ``[B, K]``.

    Each is left out with probability ``factor_dropout``, and all of them with ``all_dropout``.
    """
    known = torch.rand_like(factors) >= factor_dropout
    return known & (torch.rand_like(factors[:, :1]) >= all_dropout)
