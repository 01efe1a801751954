"""Checkpoint files, looked at before anything in them is unpickled.

A checkpoint is a zip archive of a pickle and of the bytes of tensors. With ``weights_only=True``,
torch.load runs no code of the pickle, but it unfolds what is compressed, and the pickle may still
call the few functions that allocate memory by number. Ours are stored as they are and call none.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

__all__ = ["CheckpointError", "check_archive"]

_DESCRIPTION = 64 * 2**20  # bytes of the pickle, which holds names and numbers only


class CheckpointError(ValueError):
    """The checkpoint is missing, unreadable, not one of ours, or belongs to another graph."""


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
