"""How a learning rate rises and falls."""

from __future__ import annotations

import math

__all__ = ["check_share", "warm_cosine"]


def check_share(name: str, share: float) -> float:
    """``share`` itself; ValueError unless it is a share of the training, in [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"{name} is a share of the training in [0, 1), not a count; got {share}.")
    return share


def warm_cosine(progress: float, warmup: float, start: float = 0.0) -> float:
    """Factor of the learning rate: a linear warm-up from ``start``, then a cosine down to zero.

    Args:
        progress: how much of the training is over, in [0, 1], by steps or by time.
        warmup: share of what follows ``start`` that the warm-up takes.
        start: when the part that is trained enters, in [0, 1).

    >>> [round(warm_cosine(p, 0.2, start=0.5), 2) for p in (0.5, 0.55, 0.6, 0.8, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    own = (progress - start) / (1 - start)
    if own < warmup:
        return max(0.0, own / warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (own - warmup) / (1 - warmup))))
