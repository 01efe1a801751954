"""The order in which the numbers of a checkpoint's tensors lie in memory."""

from __future__ import annotations

from typing import Any

from torch import Tensor, empty_like, memory_format


def in_format(held: Any, order: memory_format) -> Any:
    """Nested dicts, lists and tuples whose tensors of four dimensions lie in that order."""
    if isinstance(held, Tensor):
        # Not ``contiguous``, which leaves the strides of 1 × 1 kernels: a fused optimizer wants
        # those of weights and averages equal even where they mean nothing.
        return empty_like(held, memory_format=order).copy_(held) if held.dim() == 4 else held
    if isinstance(held, dict):
        return type(held)((key, in_format(value, order)) for key, value in held.items())
    if type(held) in (list, tuple):
        return type(held)(in_format(value, order) for value in held)
    return held
