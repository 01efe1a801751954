"""Checkpoint files, looked at before anything in them is unpickled.

A checkpoint is a zip archive of a pickle and of the bytes of tensors. With ``weights_only=True``,
torch.load runs no code of the pickle, but it unfolds what is compressed, and the pickle may still
call the few functions that allocate memory by number. Ours are stored as they are and call none.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffcf.io.errors import CheckpointError

_DESCRIPTION = 64 * 2**20  # bytes of the pickle, which holds names and numbers only


def check_archive(path: Path) -> None:
    """CheckpointError unless the file can be unpickled in no more memory than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise CheckpointError(f"Checkpoint {path} unfolds to more than its size.")
            described = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(described) != 1 or described[0].file_size > _DESCRIPTION:
                raise CheckpointError(f"Checkpoint {path} was not written by diffcf.")
            allocators = _allocators(archive.read(described[0]))
    except CheckpointError:
        raise
    except Exception as error:  # a torn or forged archive fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"Checkpoint {path} cannot be read: it is torn, or none of diffcf's ({reason:.200})."
        ) from None
    if allocators:
        raise CheckpointError(
            f"Checkpoint {path} was not written by diffcf: it calls {', '.join(allocators)}."
        )


def _allocators(pickled: bytes) -> list[str]:
    """What the pickle names of the things that make memory out of a number."""
    named = {
        str(argument)
        for opcode, argument, _ in pickletools.genops(pickled)
        if opcode.name in ("GLOBAL", "INST")
    }
    return sorted(name for name in named if name.endswith((" bytearray", "Tensor")))


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
