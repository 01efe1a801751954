"""How a learning rate rises and falls."""

from __future__ import annotations

import math

__all__ = ["warm_cosine"]


def warm_cosine(start: int, total: int, warmup: int, step: int) -> float:
    """Factor of the learning rate: a linear warm-up from ``start``, then a cosine to ``total``.

    The warm-up takes a fifth of the steps at most.

    >>> [round(warm_cosine(2, 12, 2, step), 2) for step in (0, 2, 3, 4, 8, 12)]
    [0.5, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    step, total = max(0, step - start), max(1, total - start)
    warmup = max(1, min(warmup, total // 5))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup))))
