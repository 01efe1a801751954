r"""The forward process, what the network predicts, and its loss.

With cosine signal and noise levels :math:`\sqrt{\bar\alpha_t} = \cos(\pi t / 2)` and
:math:`\sqrt{1 - \bar\alpha_t} = \sin(\pi t / 2)` for t in [0, 1], a noisy image is

.. math:: x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \epsilon

and the network predicts the velocity
:math:`v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x`, from which both the clean
image and the noise follow without a division, at every t including the two ends.

References:
    Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    Progressive Distillation, appendix D (Salimans & Ho, 2022), https://arxiv.org/abs/2202.00512
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """The clean image and the noise predicted from ``x_t``, ``[B, C, H, W]``; they add up to it."""

    denoised: Tensor
    eps: Tensor


class Generator(Protocol):
    """A network that predicts the velocity v of noisy images."""

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        condition_mask: Tensor | None = None,
        /,
    ) -> Tensor:
        """v ``[B, C, H, W]`` of ``x_t`` at times ``[B]``, conditioned on factors ``[B, K]``.

        ``condition_mask`` ``[B, K]`` (bool) marks the factors to use; None all of them. Without a
        condition the generator is unconditional. One that has a method ``encode_style`` takes the
        style code as a fifth argument (:func:`with_style`).
        """

    def residual_scale(self, t: Tensor) -> Tensor:
        """Standard deviation ``[B, 1, 1, 1]`` of what is left to learn of v at times ``[B]``."""


VelocityOf = Callable[..., Tensor]
"""``(x_t, t [B], condition, condition_mask) -> v``: the call of a :class:`Generator`."""

Denoiser = Callable[[Tensor, float], Prediction]
"""``(x_t [B, C, H, W], time) -> Prediction``; the time is a number, not a tensor of a device."""


def signal_level(t: Tensor) -> Tensor:
    """√ᾱ_t, shaped to broadcast over images: ``[B] -> [B, 1, 1, 1]``."""
    return torch.cos(t * (math.pi / 2)).view(-1, 1, 1, 1)


def noise_level(t: Tensor) -> Tensor:
    """√(1 − ᾱ_t), shaped to broadcast over images: ``[B] -> [B, 1, 1, 1]``."""
    return torch.sin(t * (math.pi / 2)).view(-1, 1, 1, 1)


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t from the clean image, the noise (both ``[B, C, H, W]``) and t ``[B]`` in [0, 1]."""
    return signal_level(t) * x + noise_level(t) * noise


def velocity(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The network's target v = √ᾱ_t ε − √(1 − ᾱ_t) x."""
    return signal_level(t) * noise - noise_level(t) * x


def prediction_from_velocity(v: Tensor, x_t: Tensor, t: Tensor) -> Prediction:
    """Clean image and noise from a predicted velocity."""
    signal, noise = signal_level(t), noise_level(t)
    return Prediction(denoised=signal * x_t - noise * v, eps=noise * x_t + signal * v)


def denoiser_of(velocity_of: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    """The denoiser of a network ``(x_t, t [B]) -> v``."""

    def denoise(x_t: Tensor, time: float) -> Prediction:
        t = x_t.new_full((len(x_t),), time)
        return prediction_from_velocity(velocity_of(x_t, t), x_t, t)

    return denoise


def style_of(generator: Generator, reference: Tensor) -> Tensor | None:
    """The style code ``[B, S]`` of clean reference images ``[B, C, H, W]``; None without one.

    It says *how* pictures are drawn where factors say what (a file's resampling, a camera, a
    stain), and is learned without labels: in training the reference is another image of the batch,
    of which nothing but what a batch has in common helps. An answer's reference is its factual.
    """
    encode = getattr(generator, "encode_style", None)
    return None if encode is None else encode(reference)


def with_style(generator: Generator, style: Tensor | None) -> VelocityOf:
    """The generator's call with the style code ``[B, S]`` bound; copies of a batch share it."""
    if style is None:
        return generator

    def styled(x_t: Tensor, t: Tensor, *condition: Tensor | None) -> Tensor:
        factors, mask = (*condition, None, None)[:2]
        return generator(x_t, t, factors, mask, style.repeat(len(x_t) // len(style), 1))  # type: ignore[call-arg]

    return styled


def shuffled(count: int, device: torch.device) -> Tensor:
    """0 … ``count`` - 1 in random order, ``[count]`` int64."""
    # Not randperm: the compiler of torch 2.9 to 2.11 fails on what is indexed by it.
    return torch.rand(count, device=device).argsort()


def stratified_times(image: Tensor) -> Tensor:
    """``[B]`` times in [0, 1), one in each of B equal strata, shuffled: less noisy gradients."""
    count, device = len(image), image.device
    return (shuffled(count, device) + torch.rand(count, device=device)) / count


def leaky_noise(image: Tensor, leakage: float) -> Tensor:
    """Gaussian noise made more like the noise x_T that inversion abducts.

    For images that their factors determine, abducted noise is weaker than Gaussian, and the factual
    leaks into it: it holds a faint copy of what sets the factual apart from other images. A
    generator trained on Gaussian noise only follows this copy instead of the factors it is
    conditioned on. So half of the samples get weaker noise, and half get a faint copy of *another*
    image added, which contradicts their factors. (Our addition.)

    ``leakage`` is the largest amplitude of the copy; 0 gives plain Gaussian noise. The noise is
    ``[B, C, H, W]``, like the image.
    """
    noise = torch.randn_like(image)
    if leakage == 0.0:
        return noise
    shape, device = (len(image), 1, 1, 1), image.device
    strength, weaker, leaky = (torch.rand(shape, device=device) for _ in range(3))
    other = image[shuffled(len(image), device)] - image.mean(dim=0)
    amplitude = leakage * torch.rand(shape, device=device)
    noise = torch.where(weaker < 0.5, strength, 1.0) * noise
    return noise + torch.where(leaky < 0.5, amplitude, 0.0) * other


def random_condition_mask(factors: Tensor, factor_dropout: float, all_dropout: float) -> Tensor:
    """The factors to condition on in training, ``[B, K]`` bool, of ``factors`` ``[B, K]``.

    Each is left out with probability ``factor_dropout``, and all of them with ``all_dropout``.
    """
    mask = torch.rand_like(factors) >= factor_dropout
    return mask & (torch.rand_like(factors[:, :1]) >= all_dropout)


def velocity_loss(
    generator: Generator,
    image: Tensor,
    noise: Tensor,
    t: Tensor,
    *condition: Tensor | None,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the predicted velocity, scalar; the same for our method and its peers.

    It is taken in units of what is left to learn at each t, so that every t counts alike: without
    that the high noise levels, where the factors decide what is drawn, would weigh a tenth.

    Clean images and noise are ``[B, C, H, W]``, t is ``[B]`` in [0, 1], and ``condition`` is the
    generator's condition and its mask; ``weight`` ``[B]`` is of the images. The reference of its
    style is another image of the batch.
    """
    network = with_style(generator, style_of(generator, image.roll(1, dims=0)))
    v = network(add_noise(image, noise, t), t, *condition)
    error = (v.float() - velocity(image, noise, t)) / generator.residual_scale(t)
    error = error.square().flatten(1).mean(dim=1)
    return error.mean() if weight is None else (weight * error).mean()
