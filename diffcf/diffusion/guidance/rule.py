"""What a rule of guidance is, and how it is bound to a projector and a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffcf.io import SettingsError

NO_BIAS: Mapping[float, Tensor] = MappingProxyType({})


def check_times(what: str, t_min: float, t_max: float) -> None:
    """SettingsError for times of guidance, ``what``, out of order or outside [0, 1]."""
    if not 0.0 <= t_min <= t_max <= 1.0:
        raise SettingsError(f"{what} needs 0 <= t_min <= t_max <= 1, not {t_min} and {t_max}.")


class Posterior(Protocol):
    """Distribution of the factors' code given an image: mean and variance, ``[B, E]`` each."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def variance(self) -> Tensor: ...


class Projector(Protocol):
    """Reads factors off noisy images: the causal projector, or a peer's predictor."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Posterior:
        """The posterior of images ``[B, C, H, W]`` at times ``[B]``, differentiable in x_t."""


class Shift(NamedTuple):
    """A rule's change of ε̃, ``[B, C, H, W]``, and its λ_t, ``[B]``."""

    eps: Tensor
    strength: Tensor


class Guidance(ABC):
    """A rule for λ_t.

    Args:
        t_min, t_max: guide only while ``t_min <= t <= t_max``; elsewhere nothing is added and
            nothing is computed.
    """

    def __init__(self, t_min: float = 0.0, t_max: float = 1.0) -> None:
        check_times("Guidance", t_min, t_max)
        self.t_min, self.t_max = t_min, t_max

    @abstractmethod
    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        """The change of ε̃ at ``x_t`` (images), ``t`` ``[B]``, toward the code ``[B, E]``."""

    def bind(
        self, projector: Projector, target: Tensor, factual_bias: Mapping[float, Tensor] = NO_BIAS
    ) -> Guide | None:
        """The guide toward a code ``[B, E]``; None for no guidance.

        ``factual_bias`` is, by time, the projector's error on the factual's own x_t: its mean less
        the factual's code, ``[B, E]``. The same error is expected on the counterfactual, so that
        guidance asks for the *change* of factors and leaves a factual alone.
        """
        return Guide(self, projector, target, factual_bias)

    def covers(self, time: float) -> bool:
        """Whether the rule guides at this time."""
        return self.t_min <= time <= self.t_max and time > 0.0


@dataclass
class Guide:
    """A rule bound to its target: a :data:`diffcf.diffusion.sampling.EpsShift`.

    Attributes:
        trace: (t, λ_t ``[B]``) of every guided step.
    """

    rule: Guidance
    projector: Projector
    target: Tensor
    factual_bias: Mapping[float, Tensor]
    trace: list[tuple[float, Tensor]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, time: float) -> Tensor | None:
        if not self.rule.covers(time):
            return None
        target = self.target + self.factual_bias.get(time, 0.0)
        shift = self.rule.shift(self.projector, target, x_t, x_t.new_full((len(x_t),), time))
        self.trace.append((time, shift.strength.detach()))
        return shift.eps


class NoGuidance(Guidance):
    """λ_t = 0: the generator alone, by its own conditioning."""

    def shift(self, projector: Projector, target: Tensor, x_t: Tensor, t: Tensor) -> Shift:
        return Shift(torch.zeros_like(x_t), x_t.new_zeros(len(x_t)))

    def bind(
        self, projector: Projector, target: Tensor, factual_bias: Mapping[float, Tensor] = NO_BIAS
    ) -> Guide | None:
        return None

    def covers(self, time: float) -> bool:
        return False
