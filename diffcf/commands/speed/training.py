"""What the framework adds to a training step, and what fusing the optimiser saves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import chain, pairwise, repeat
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from diffcf.commands.speed.timing import Row, ratio_row
from diffcf.evaluation import peak_memory
from diffcf.io import now

_SETTLE = 4


class _Clock(Callback):
    """When each training step started."""

    def __init__(self) -> None:
        self.started: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.started.append(now(pl_module.device))


def steps(model: Any, data: Any, count: int, repeats: int) -> list[Row]:
    """Our step under Lightning over the same step in a bare loop, in alternating stretches."""
    device = next(model.parameters()).device
    ours: list[float] = []
    bare: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        clock = _Clock()
        fit(deepcopy(model), data, count, clock)
        ours.append(median(_between(clock.started)))
        for fused, taken in bare.items():
            taken.append(median(_bare(deepcopy(model), data, count, fused, device)))
    return [
        ratio_row(
            "our training step / the same networks in a bare loop", ours, bare[True], "≤ 1.03"
        ),
        ratio_row("bare loop, optimiser fused / not", bare[True], bare[False]),
        Row("one training step", median(ours), "s", (min(ours), max(ours))),
    ]


def fit(model: Any, data: Any, count: int, watch: Callback) -> None:
    """Train for ``count`` steps under Lightning, with no callback but ``watch``."""
    trainer = Trainer(
        max_steps=count,
        max_epochs=-1,
        accelerator="auto",
        devices=1,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model.train(), train_dataloaders=data.train_dataloader())


def _bare(model: Any, data: Any, count: int, fused: bool, device: torch.device) -> list[float]:
    """Seconds of each step of a loop that trains the same networks with the same losses."""
    groups = [
        {"params": n.parameters(), "lr": model.rate_of(name)[0]} for name, n in model.networks()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=model.weight_decay, fused=fused)
    batches = _forever(data.train_dataloader, device)
    model.train()
    started = []
    for _ in range(count):
        started.append(now(device))
        batch = next(batches)
        terms = model.losses(batch["image"], batch["factors"])
        optimizer.zero_grad()
        model.total(terms).backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
    return _between(started)


def _between(started: list[float]) -> list[float]:
    """Seconds from each start to the next, once things have settled."""
    return [b - a for a, b in pairwise(started[_SETTLE:])]


def _forever(loader: Callable[[], Any], device: torch.device) -> Iterator[dict[str, Tensor]]:
    batches = chain.from_iterable(loader() for _ in repeat(None))
    return ({key: value.to(device) for key, value in batch.items()} for batch in batches)


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
