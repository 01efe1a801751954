r"""Deterministic diffusion paths, as pure functions of a denoiser.

A sampler knows nothing of factors: the denoiser is already conditioned on them. With the angle
:math:`\varphi = \pi t / 2` the probability flow is :math:`dx / d\varphi = v`. If the prediction
stayed constant, x_t would rotate about the origin: that is DDIM's step (``order`` 1). ``order`` 2
adds the change of the prediction since the step before, to second order in φ.

Inversion follows the path from an image to the noise x_T; sampling comes back, not quite to the
same image, as both are exact to their order only. An *anchored* inversion (direct inversion with
residuals) stores this error: at each time, the difference between the factual's own x_t and the
sampling step that should lead to it. Added at the same steps of any sampling, these corrections
return the factual exactly, however few the steps, and a counterfactual keeps exactly what it shares
with the factual. Where it predicts another clean image, a correction would only leave a trace of
the factual, so it fades with that difference. All this costs no evaluation: inversion has made the
predictions already, but for the last time, and leaves out the first, where x_t is the image itself.

References:
    Denoising Diffusion Implicit Models, eq. 12 (Song et al., 2021), https://arxiv.org/abs/2010.02502
    DPM-Solver++, multistep (Lu et al., 2022), https://arxiv.org/abs/2211.01095: the same idea in
    terms of the log signal-to-noise ratio, which is infinite at both of our ends.
    Direct Inversion (Ju et al., 2023), https://arxiv.org/abs/2310.01506: corrects the source's
    path, at the price of drawing it beside every edit. Storing its corrections is ours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from diffcf.diffusion.process import Denoiser, Prediction
from diffcf.io import SettingsError

EpsShift = Callable[[Tensor, float], Tensor | None]
"""``(x_t [B, C, H, W], time)`` → the change of ε̃ there, or None for none."""
AGREEMENT = 0.1
"""Difference of predicted pixels, in [-1, 1], at which a correction has faded to 1 / e."""
_Timed = tuple[Prediction, float]  # a prediction and its time


def time_grid(steps: int, t_max: float = 1.0, spacing: float = 1.0) -> tuple[float, ...]:
    """``steps + 1`` times :math:`t_{max} (k / steps)^{spacing}`, from 0 to ``t_max``.

    Evenly spaced for a ``spacing`` of 1; above, steps are shorter near the image.

    Raises:
        SettingsError: for fewer than one step, ``t_max`` outside (0, 1], or a spacing not above 0.
    """
    if steps < 1 or not 0.0 < t_max <= 1.0:
        raise SettingsError(f"Take at least 1 step and 0 < t_max <= 1, got {steps} and {t_max}.")
    if not 0.0 < spacing < math.inf:
        raise SettingsError(f"The spacing of times must be a number above 0, not {spacing}.")
    return tuple(t_max * (step / steps) ** spacing for step in range(steps + 1))


@dataclass(frozen=True)
class Inversion:
    """The end of an inverted path and, if it is anchored, its corrections.

    Attributes:
        x_T: ``[B, C, H, W]`` at the last of ``times``.
        times: ascending from 0.
        corrections: of the step down to each of ``times[:-1]``; empty if not anchored.
        denoised: the clean images predicted at each of ``times[1:]``, to which they belong.
    """

    x_T: Tensor
    times: tuple[float, ...]
    corrections: tuple[Tensor, ...] = ()
    denoised: tuple[Tensor, ...] = ()

    def select(self, rows: Tensor) -> Inversion:
        """The paths ``rows`` (long ``[N]``) of the batch."""
        parts = (tuple(x[rows] for x in images) for images in (self.corrections, self.denoised))
        return Inversion(self.x_T[rows], self.times, *parts)

    def renewed(self, noise: Tensor, share: Tensor) -> Inversion:
        """The path with a ``share`` (in [0, 1]) of the variance of x_T taken from ``noise``, both
        ``[B, C, H, W]`` or of a shape that spreads to it; bit for bit the same where it is 0."""
        return replace(self, x_T=(1 - share).sqrt() * self.x_T + share.sqrt() * noise)

    def correction(self, step: int, denoised: Tensor) -> Tensor | float:
        """What to add to the step down to ``times[step]``, where ``denoised`` was predicted."""
        if not self.corrections:
            return 0.0
        return agreement(denoised, self.denoised[step]) * self.corrections[step]


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """How far images ``[B, C, H, W]`` agree, ``[B, 1, H, W]`` in [0, 1]: 1 where they are equal."""
    difference = (a - b).abs().amax(dim=1, keepdim=True)
    return torch.exp(-(difference / AGREEMENT).square())


def invert(
    denoiser: Denoiser, x: Tensor, times: Sequence[float], order: int = 1, anchored: bool = False
) -> Inversion:
    """The path from images ``x`` ``[B, C, H, W]`` to the noise from which sampling returns them.

    One evaluation for each step: at all ``times`` but the first if ``anchored``, else at all but
    the last.
    """
    states, predictions = deque([x], maxlen=3), deque[_Timed](maxlen=3)
    corrections, denoised = list[Tensor](), list[Tensor]()
    for k, now in enumerate(times if anchored else times[:-1]):
        is_image = anchored and k == 0  # x_t is the image, without noise
        prediction = Prediction(x, torch.zeros_like(x)) if is_image else denoiser(states[-1], now)
        predictions.append((prediction, now))
        if anchored and k > 0:
            denoised.append(prediction.denoised)
        if anchored and k > 1:  # two steps behind, where the step down has its own step before
            before = predictions[-1] if order > 1 else None
            corrections.append(states[0] - _step(*predictions[-2], times[k - 2], before))
        if k < len(times) - 1:
            before = predictions[-2] if order > 1 and k > 0 else None
            states.append(_step(prediction, now, times[k + 1], before))
    if not anchored:
        return Inversion(states[-1], tuple(times))
    corrections.append(states[-2] - _step(*predictions[-1], times[-2], None))
    return Inversion(states[-1], tuple(times), tuple(corrections), tuple(denoised))


def sample(
    denoiser: Denoiser, start: Inversion, order: int = 1, guide: EpsShift | None = None
) -> Tensor:
    """The clean images ``[B, C, H, W]`` at the end of the path down from ``start``."""
    x_t, before = start.x_T, None
    for step, (then, now) in reversed(list(enumerate(pairwise(start.times)))):
        prediction = denoiser(x_t, now)
        shift = guide(x_t, now) if guide is not None else None
        x_t = _step(prediction, now, then, before)
        if shift is not None:
            x_t = x_t + _moved(now, then) * shift
        x_t = x_t + start.correction(step, prediction.denoised)
        # Guidance is left out of the history: it comes and goes, and is no trend.
        before = (prediction, now) if order > 1 else None
    return x_t


def _step(prediction: Prediction, now: float, then: float, before: _Timed | None) -> Tensor:
    """x at time ``then``, by the predictions at time ``now`` and, for order 2, at the time before.

    A constant prediction rotates x_t: d²x/dφ² = −x. The rest, u = d²x/dφ² + x, is the rate at which
    v departs from this rotation, taken from the step before.
    """
    phi, phi_then = now * math.pi / 2, then * math.pi / 2
    x = math.cos(phi_then) * prediction.denoised + math.sin(phi_then) * prediction.eps
    if before is None:
        return x
    last, time = before
    change = math.cos(phi) * (prediction.eps - last.eps)
    change = change - math.sin(phi) * (prediction.denoised - last.denoised)
    bend = (1 - math.cos(phi_then - phi)) / math.sin(phi - time * math.pi / 2)
    return x + bend * change


def _moved(now: float, then: float) -> float:
    """How far a unit of ε moves x at ``then``, with x at ``now`` fixed.

    x_t = √ᾱ x + √(1−ᾱ) ε holds before and after, so the clean image moves against ε. Near t = 1 it
    would move without bound, so its share is limited there.
    """
    phi, phi_then = now * math.pi / 2, then * math.pi / 2
    clean = math.sin(phi) / max(math.cos(phi), 0.05)
    return math.sin(phi_then) - math.cos(phi_then) * clean
