"""What the framework adds to a training step, and what fusing the optimiser saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import chain, pairwise, repeat
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from diffcf.bench.timing import Row, ratio_row
from diffcf.clock import now

__all__ = ["fit", "steps"]

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
