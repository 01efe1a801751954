"""Checkpoints that anyone may have made: checked before unpickling, built in bounded memory.

A checkpoint is a zip archive of a pickle and of the bytes of tensors. With ``weights_only=True``,
torch.load runs no code of the pickle, but it decompresses what is compressed, and the pickle may
still call the few functions that allocate memory by number. Ours are uncompressed and call none.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

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
            operations = pickletools.genops(archive.read(described[0]))
            named = {str(given) for code, given, _ in operations if code.name in ("GLOBAL", "INST")}
    except CheckpointError:
        raise
    except Exception as error:  # a torn or forged archive fails in many ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"Checkpoint {path} cannot be read: it is torn, or none of diffcf's ({reason:.200})."
        ) from None
    # These allocate memory by number.
    if found := sorted(name for name in named if name.endswith((" bytearray", "Tensor"))):
        raise CheckpointError(
            f"Checkpoint {path} was not written by diffcf: it calls {', '.join(found)}."
        )


class AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside it, creating more than ``limit`` bytes of tensors in all raises MemoryError.

    A description of a few bytes can ask for a network of any size. Only tensors that are created
    from no other tensor are counted, not views and results of computations.

    >>> import torch
    >>> with AllocationLimit(1000):
    ...     torch.zeros(10**12)
    Traceback (most recent call last):
    MemoryError: more than 1000 bytes of tensors
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit, self.used = limit, 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = (*args, *(kwargs or {}).values())
        refusal = MemoryError(f"more than {self.limit} bytes of tensors")
        # Before the call: a single one may fill all memory.
        if max(map(_elements, given), default=0) > self.limit:
            raise refusal
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not any(isinstance(x, Tensor) for x in given):
            self.used += result.nbytes
            if self.used > self.limit:
                raise refusal
        return result


def _elements(argument: object) -> int:
    """Elements of a shape; 0 for other arguments."""
    sides = argument if isinstance(argument, list | tuple) else ()
    return prod(map(abs, sides)) if sides and all(type(side) is int for side in sides) else 0
