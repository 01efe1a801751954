"""Training: what the framework adds to a step, what fusing the optimiser saves, and memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from copy import deepcopy
from itertools import chain, pairwise, repeat
from statistics import median
from typing import TypeVar

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback

from diffcf.commands.speed import Row, ratio_row
from diffcf.evaluation import peak_memory
from diffcf.io import now
from diffcf.methods import CounterfactualModule, DiffusionCounterfactuals
from diffcf.training import FactorData

T = TypeVar("T")

_WARM_UP = 4  # steps that are not measured


def steps(model: DiffusionCounterfactuals, data: FactorData, count: int, repeats: int) -> list[Row]:
    """Our step under Lightning over the same step in a bare loop, in alternating stretches."""
    ours: list[float] = []
    bare: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        ours.append(median(_between(_fit(deepcopy(model), data, count, now))))
        for fused, taken in bare.items():
            taken.append(median(_bare(deepcopy(model), data, count, fused)))
    what = "our training step / the same networks in a bare loop"
    return [
        ratio_row(what, ours, bare[True], "≤ 1.03"),
        ratio_row("bare loop, optimiser fused / not", bare[True], bare[False]),
        Row.over("one training step", ours, "s"),
    ]


def _fit(
    model: DiffusionCounterfactuals,
    data: FactorData,
    count: int,
    observe: Callable[[torch.device], T],
) -> list[T]:
    """What ``observe`` returns at the start of every step of a training under Lightning."""
    seen: list[T] = []
    watch = LambdaCallback(on_train_batch_start=lambda *_: seen.append(observe(model.device)))
    train(model, data, count, [watch])
    return seen


def train(
    model: CounterfactualModule,
    data: FactorData,
    count: int,
    callbacks: list[Callback],
    accelerator: str = "auto",
) -> None:
    """Train ``count`` steps under Lightning, with these callbacks and nothing else around them."""
    trainer = Trainer(
        max_steps=count,
        max_epochs=-1,
        devices=1,
        accelerator=accelerator,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model.train(), train_dataloaders=data.train_dataloader())


def _bare(
    model: DiffusionCounterfactuals, data: FactorData, count: int, fused: bool
) -> list[float]:
    """Seconds of each step of a loop that trains the same networks with the same losses."""
    optimizer = model.optimizer(fused)
    device = next(model.parameters()).device
    batches = chain.from_iterable(data.train_dataloader() for _ in repeat(None))
    model.train()
    started = []
    for _ in range(count):
        started.append(now(device))
        batch = {key: value.to(device) for key, value in next(batches).items()}
        terms = model.losses(model.seen(batch), batch["factors"])
        optimizer.zero_grad()
        model.total(terms).backward()
        model.on_before_optimizer_step(optimizer)
        optimizer.step()
    return _between(started)


def _between(started: list[float]) -> list[float]:
    """Seconds from each start to the next, after the warm-up."""
    return [b - a for a, b in pairwise(started[_WARM_UP:])]


class _Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2`` (mallinfo(3)): ten sizes in bytes."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


def held_memory(device: torch.device) -> float | None:
    """MiB in buffers that are allocated and not yet freed: what a leak would raise.

    On a CUDA card, by torch's tensors. Elsewhere by the process, as glibc 2.33 or newer counts it
    (the main arena, nearly all of a training's); None where the C library cannot tell. The resident
    set would also hold what the allocator keeps of what is freed.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    sizes = mallinfo2().sizes
    return (sizes[4] + sizes[7]) / 2**20  # hblkhd, by mmap, and uordblks, in the main arena


def memory(model: DiffusionCounterfactuals, data: FactorData, count: int) -> list[Row]:
    """Memory of a training of ``count`` steps: its peak, and what has grown from a tenth on.

    What is held is compared at its most over the second tenth and over the last.
    """
    tenth = max(1, count // 10)
    trained = deepcopy(model)
    trained.head_start = 0.0  # optimiser state of networks that start later would seem a leak
    seen = _fit(trained, data, count, lambda device: (peak_memory(device), held_memory(device)))
    peaks = [peak for peak, _ in seen]
    rows = [Row(f"peak memory, training, batch {data.batch_size}", peaks[-1], "MiB")]
    held = [held for _, held in seen if held is not None]
    if held:
        early, late = max(held[tenth : 2 * tenth]), max(held[-tenth:])
        rows.append(Row("of it held between steps", late, "MiB"))
        growth = f"growth of what is held, from step {tenth} to {count}"
        rows.append(Row(growth, late - early, "MiB", target="0"))
    for mark in (tenth, 2 * tenth, 5 * tenth):
        growth = f"growth of the peak from step {mark} to {count}"
        rows.append(Row(growth, peaks[-1] - peaks[mark], "MiB", target="0"))
    return rows
