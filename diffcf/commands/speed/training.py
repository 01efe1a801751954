"""Training: what the framework adds to a step, what fusing the optimiser saves, and memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import chain, pairwise, repeat
from statistics import median
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from diffcf.commands.speed.timing import Row, ratio_row
from diffcf.evaluation import peak_memory
from diffcf.io import now
from diffcf.methods import DiffusionCounterfactuals
from diffcf.training import Batch, FactorData

T = TypeVar("T")

_WARM_UP = 4  # steps that are not measured


class _AtEveryStep(Callback, Generic[T]):
    """What ``observe`` returns at the start of every training step, for the model's device."""

    def __init__(self, observe: Callable[[torch.device], T]) -> None:
        self.observe = observe
        self.seen: list[T] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.seen.append(self.observe(pl_module.device))


def steps(model: DiffusionCounterfactuals, data: FactorData, count: int, repeats: int) -> list[Row]:
    """Our step under Lightning over the same step in a bare loop, in alternating stretches."""
    ours: list[float] = []
    bare: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        clock = _AtEveryStep(now)
        _fit(deepcopy(model), data, count, clock)
        ours.append(median(_between(clock.seen)))
        for fused, taken in bare.items():
            taken.append(median(_bare(deepcopy(model), data, count, fused)))
    return [
        ratio_row(
            "our training step / the same networks in a bare loop", ours, bare[True], "≤ 1.03"
        ),
        ratio_row("bare loop, optimiser fused / not", bare[True], bare[False]),
        Row("one training step", median(ours), "s", (min(ours), max(ours))),
    ]


def _fit(model: DiffusionCounterfactuals, data: FactorData, count: int, watch: Callback) -> None:
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


def _bare(
    model: DiffusionCounterfactuals, data: FactorData, count: int, fused: bool
) -> list[float]:
    """Seconds of each step of a loop that trains the same networks with the same losses."""
    groups = [
        {"params": n.parameters(), "lr": model.rate_of(name)[0]} for name, n in model.networks()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=model.weight_decay, fused=fused)
    device = next(model.parameters()).device
    batches = _forever(data, device)
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
    """Seconds from each start to the next, after the warm-up."""
    return [b - a for a, b in pairwise(started[_WARM_UP:])]


def _forever(data: FactorData, device: torch.device) -> Iterator[Batch]:
    batches = chain.from_iterable(data.train_dataloader() for _ in repeat(None))
    return ({key: value.to(device) for key, value in batch.items()} for batch in batches)


class _Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2`` (mallinfo(3)): ten sizes in bytes."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]
    HBLKHD, UORDBLKS = 4, 7  # allocated by mmap, and in the main arena


def held_memory(device: torch.device) -> float | None:
    """MiB in buffers that are allocated and not yet freed: what a leak would raise.

    On a CUDA card, what torch's tensors hold of it. Elsewhere what the process has allocated, by
    glibc 2.33 or newer (the main arena, whose share in a training is nearly all); None where the C
    library cannot tell. The resident set is larger: an allocator keeps what is freed, and between
    buffers of changing sizes there are gaps.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    mallinfo2.restype = _Mallinfo2
    sizes = mallinfo2().sizes
    return (sizes[_Mallinfo2.UORDBLKS] + sizes[_Mallinfo2.HBLKHD]) / 2**20


def memory(model: DiffusionCounterfactuals, data: FactorData, count: int) -> list[Row]:
    """Memory of a training of ``count`` steps: its peak, and what has grown from a tenth on.

    All networks train from the first step: one with a head start would have the others allocate
    their optimiser's state later, which is no leak. What is held is compared at its most over the
    second tenth and over the last.
    """
    tenth = max(1, count // 10)
    watch = _AtEveryStep(lambda device: (peak_memory(device), held_memory(device)))
    trained = deepcopy(model)
    trained.head_start = 0.0
    _fit(trained, data, count, watch)
    peaks, span = [peak for peak, _ in watch.seen], f"from step {tenth} to {count}"
    rows = [Row(f"peak memory, training, batch {data.batch_size}", peaks[-1], "MiB")]
    held = [held for _, held in watch.seen if held is not None]
    if held:
        early, late = max(held[tenth : 2 * tenth]), max(held[-tenth:])
        rows.append(Row("of it held between steps", late, "MiB"))
        rows.append(Row(f"growth of what is held, {span}", late - early, "MiB", target="0"))
    for mark in (tenth, 2 * tenth, 5 * tenth):
        growth = f"growth of the peak from step {mark} to {count}"
        rows.append(Row(growth, peaks[-1] - peaks[mark], "MiB", target="0"))
    return rows
