r"""Feedback: the condition is corrected by what is read while the image is drawn.

A generator told z_cf draws something near it: less of a rare attribute than it was told, and some
of what goes with it in the data. At each step the projector reads x_t, and the generator is told

.. math:: \tilde z_t = z_{cf} + \gamma\,(z_{cf} - (\hat z(x_t) - b_t)),

more of what is missing and less of what is too much, with :math:`b_t` the projector's error on the
factual's own x_t. So under no intervention the correction is exactly zero, and what the projector
cannot read at t is not held against the image. Unlike a gradient of the projector, which finds
whatever changes a reading, a condition moves the image along what the generator has learned; and it
takes no gradient. (Ours: proportional feedback of an output.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.diffusion.guidance.rule import check_times
from diffcf.io import SettingsError


@dataclass(frozen=True)
class Feedback:
    """How the condition is corrected.

    Attributes:
        gain: γ; 0 corrects nothing.
        beyond: how far a binary factor may be told beyond 0 and 1. Continuous ones stay within
            their range, and categorical ones are told as they are.
        t_min, t_max: the times at which it corrects.

    Raises:
        SettingsError: for a gain or ``beyond`` below 0 or not finite, and times out of order or
            outside [0, 1].
    """

    gain: float = 1.0
    beyond: float = 1.0
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.gain < math.inf and 0.0 <= self.beyond < math.inf):
            raise SettingsError(
                f"gain and beyond of feedback are finite numbers from 0 on, not {self.gain} and "
                f"{self.beyond}."
            )
        check_times("Feedback", self.t_min, self.t_max)

    def covers(self, time: float) -> bool:
        """Whether it corrects at this time."""
        return self.t_min <= time <= self.t_max and time > 0.0

    def told(self, target: Tensor, read: Tensor, binary: Tensor) -> Tensor:
        """Corrected factors ``[B, K]`` of those to be shown and those read, ``[B, K]`` each.

        >>> target, binary = torch.tensor([[1.0, 0.5, 0.1]]), torch.tensor([True, False, False])
        >>> Feedback(gain=0.5).told(target, torch.tensor([[0.2, 0.9, 0.9]]), binary)
        tensor([[1.4000, 0.3000, 0.0000]])
        """
        beyond = self.beyond * binary.to(target)
        corrected = target + self.gain * (target - read.clamp(0, 1))
        return torch.minimum(torch.maximum(corrected, 0.0 - beyond), 1 + beyond)
