"""Memory of a training: how much at most, and whether it grows."""

from __future__ import annotations

import ctypes
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from diffcf.bench.timing import Row
from diffcf.bench.training import fit
from diffcf.evaluation.cost import peak_memory

__all__ = ["held_memory", "memory"]


class _Mallinfo2(ctypes.Structure):
    """What glibc's ``mallinfo2`` says (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def held_memory(device: torch.device) -> float | None:
    """MiB in buffers that nobody has given back yet: what a leak would raise.

    On a CUDA card, what torch's tensors hold of it. Elsewhere what the process has allocated, by
    glibc 2.33 or newer (the main arena, whose share in a training is nearly all); None where the C
    library cannot tell. The resident set is larger: an allocator keeps what is given back, and
    between buffers of changing sizes there are gaps.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    told = mallinfo2()
    return (told.uordblks + told.hblkhd) / 2**20


class _Watch(Callback):
    """Peak and held memory at the start of every training step."""

    def __init__(self) -> None:
        self.peaks: list[float] = []
        self.held: list[float | None] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.peaks.append(peak_memory(pl_module.device))
        self.held.append(held_memory(pl_module.device))


def memory(model: Any, data: Any, count: int) -> list[Row]:
    """Memory of a training of ``count`` steps: its peak, and what has grown from a tenth on.

    All networks train from the first step: one with a head start would have the others allocate
    their optimiser's state later, which is no leak. What is held is compared at its most over the
    second tenth and over the last.
    """
    watch, tenth = _Watch(), max(1, count // 10)
    trained = deepcopy(model)
    if hasattr(trained, "head_start"):
        trained.head_start = 0.0
    fit(trained, data, count, watch)
    peaks, span = watch.peaks, f"from step {tenth} to {count}"
    rows = [Row(f"peak memory, training, batch {data.batch_size}", peaks[-1], "MiB")]
    held = [value for value in watch.held if value is not None]
    if held:
        early, late = max(held[tenth : 2 * tenth]), max(held[-tenth:])
        rows.append(Row("of it held between steps", late, "MiB"))
        rows.append(Row(f"growth of what is held, {span}", late - early, "MiB", target="0"))
    for mark in (tenth, 2 * tenth, 5 * tenth):
        grown = peaks[-1] - peaks[mark]
        rows.append(
            Row(f"growth of the peak from step {mark} to {count}", grown, "MiB", target="0")
        )
    return rows
