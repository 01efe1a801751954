"""A bound on the tensors that are made while something a file describes is being built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationLimit"]


class AllocationLimit(TorchDispatchMode):
    """Within it, making tensors of more than ``limit`` bytes in all raises MemoryError.

    A description of a few bytes can ask for a network of any size. Memory is counted where tensors
    are made out of nothing; views and results of computations are not.

    >>> with AllocationLimit(1000):
    ...     torch.zeros(10**12)
    Traceback (most recent call last):
    MemoryError: more than 1000 bytes of tensors
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.used = limit, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = (*args, *(kwargs or {}).values())
        made = not any(isinstance(argument, Tensor) for argument in given)
        # Before anything is made: a single call may fill all memory.
        if max(map(_elements, given), default=0) > self.limit:
            self._refuse()
        result = func(*args, **(kwargs or {}))
        if made and isinstance(result, Tensor):
            self.used += result.nbytes
            if self.used > self.limit:
                self._refuse()
        return result

    def _refuse(self) -> None:
        raise MemoryError(f"more than {self.limit} bytes of tensors")


def _elements(argument: Any) -> int:
    """Elements of a shape; 0 for other arguments."""
    shaped = isinstance(argument, list | tuple | torch.Size) and bool(argument)
    if not shaped or not all(type(side) is int for side in argument):
        return 0
    return prod(abs(side) for side in argument)
