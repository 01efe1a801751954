"""The learning rate's course, and the numbers that a training is set by."""

from __future__ import annotations

import math

from diffcf.io import SettingsError


def check_amount(name: str, amount: float) -> float:
    """``amount`` itself; SettingsError unless it is a finite number from 0."""
    if not 0 <= amount < math.inf:
        raise SettingsError(f"{name} must be a finite number from 0, not {amount}.")
    return amount


def check_share(name: str, share: float) -> float:
    """``share`` itself; ValueError unless it is a share of the training, in [0, 1)."""
    if not 0 <= share < 1:
        raise SettingsError(
            f"{name} is a share of the training in [0, 1), not a count; got {share}."
        )
    return share


def warm_cosine(progress: float, warmup: float, start: float = 0.0, end: float = 1.0) -> float:
    """Factor of the learning rate at ``progress`` of the training, in [0, 1].

    From ``start`` it rises linearly, for the share ``warmup`` of what is left until ``end``, and
    then falls as a cosine to zero.

    >>> [round(warm_cosine(p, 0.2, start=0.5), 2) for p in (0.5, 0.55, 0.6, 0.8, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    own = (progress - start) / (end - start)
    if own < warmup:
        return max(0.0, own / warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (own - warmup) / (1 - warmup))))
