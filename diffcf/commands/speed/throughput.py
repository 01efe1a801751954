"""Training steps by batch size: images a second, memory, and how near they come to the device.

A step is timed without data and logging: loss, gradients, clipping, optimiser. Its *floor* is the
arithmetic of its convolutions and matrix products over the rate of one large matrix product of the
same number format in the same run: no step of these networks can be faster.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from diffcf.commands.speed import Row, ratio_row, seconds
from diffcf.io import now
from diffcf.methods import DiffusionCounterfactuals

ON_CARD = (32, 128, 512, 2048)
SIDES = (64, 128, 256)
_ARITHMETIC = """convolution_backward mkldnn_convolution cudnn_convolution mm addmm bmm baddbmm
_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention"""
ARITHMETIC = frozenset(f"aten::{name}" for name in _ARITHMETIC.split())
WARM_UP = 3
PROFILED = 5  # steps


class Step:
    """A training step of a copy of the model, on images ``[B, C, H, W]`` and factors ``[B, K]``.

    On a card in bfloat16, elsewhere in single precision; compiled, or not.
    """

    def __init__(
        self, model: DiffusionCounterfactuals, image: Tensor, factors: Tensor, compiled: bool
    ) -> None:
        self.model, self.given = deepcopy(model).train(), (image, factors)
        self.batch = self.model.seen({"image": image}), factors
        self.model.time_spent = 0.5
        self.model.head_start = 0.0
        self.model.compilation.wanted = compiled
        self.model.compilation.start(image.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def __call__(self) -> None:
        model, device = self.model, self.batch[0].device
        half = device.type == "cuda"
        model.compilation.begin_step()
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            total = model.total(model.losses(*self.batch))
        self.optimizer.zero_grad()
        total.backward()
        model.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()


def training_steps(
    model: DiffusionCounterfactuals,
    image: Tensor,
    factors: Tensor,
    compiled: bool,
    repeats: int,
) -> list[Row]:
    """Rows for each batch size that fits; on a processor for the batch that is given."""
    device, rows = image.device, list[Row]()
    ceiling = matrix_rate(device, repeats)
    rows.append(Row("one large matrix product", ceiling / 1e12, "TFLOP/s"))
    sizes = ON_CARD if device.type == "cuda" else (len(image),)
    for size in sizes:
        times = -(-size // len(image))
        batch = (image.repeat(times, 1, 1, 1)[:size], factors.repeat(times, 1)[:size])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            floor = arithmetic(Step(model, *batch, compiled=False)) / ceiling
            rows += _of_size(Step(model, *batch, compiled), size, floor, repeats)
        except torch.OutOfMemoryError:
            print(f"A batch of {size} does not fit into the card's memory.", flush=True)
            break
    return rows


def overlay(with_it: Step, without: Step, repeats: int) -> list[Row]:
    """What files on top of an experiment do to its step, such as ``experiments/latents/conv.yaml``.

    A first stage's encoding is left out: training reads its latents from a cache.
    """
    for step in (with_it, without):
        for _ in range(WARM_UP):
            step()
    turns = {"with": with_it, "without": without}
    taken = seconds(turns, repeats, without.batch[0].device)
    return [
        ratio_row("a training step with --config / without", taken["with"], taken["without"]),
        Row.over("a training step with --config", [1000 * t for t in taken["with"]], "ms"),
    ]


def arithmetic(step: Step) -> int:
    """FLOP of the convolutions and matrix products of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _of_size(step: Step, size: int, floor: float, repeats: int) -> list[Row]:
    device, compiled = step.batch[0].device, step.model.compilation.active
    turns = {"step": step}
    if compiled:
        turns["eager"] = Step(step.model, *step.given, compiled=False)
    started = now(device)
    step()
    first = now(device) - started
    for _ in range(WARM_UP - 1):
        step()
    timed = seconds(turns, repeats, device)
    taken = timed["step"]
    rows = [
        Row.over(f"a training step, batch {size}", [1000 * t for t in taken], "ms"),
        Row.over(f"images trained, batch {size}", [size / t for t in taken], "images/s"),
        Row(f"floor of a step, batch {size}", 1000 * floor, "ms"),
        Row(f"a step over its floor, batch {size}", median(taken) / floor, target="≤ 1.25"),
    ]
    if compiled:
        rows.append(ratio_row(f"compiled / eager, batch {size}", taken, timed["eager"]))
        rows.append(Row(f"the first step, which compiles, batch {size}", first, "s"))
    else:
        share = arithmetic_share(turns["step"], device)
        rows.append(Row(f"in convolutions and matrix products, batch {size}", share, "of the time"))
    if device.type == "cuda":
        rows.append(Row(f"card busy in a step, batch {size}", busy(step, device), "of the time"))
        peak = torch.cuda.max_memory_allocated(device) / 2**20
        rows.append(Row(f"peak memory of a step, batch {size}", peak, "MiB"))
    return rows


def matrix_rate(device: torch.device, repeats: int) -> float:
    """FLOP a second of one large matrix product: bfloat16 on a card, else single precision."""
    card = device.type == "cuda"
    side = 8192 if card else 1024
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if card else torch.float32)
    taken = seconds({"product": partial(torch.mm, a, a)}, repeats, device)["product"]
    return 2 * side**3 / min(taken)


def memory_by_size(
    model: DiffusionCounterfactuals, image: Tensor, factors: Tensor, compiled: bool
) -> list[Row]:
    """Peak memory of a step by the side of the images, scaled up from these; on a card only."""
    device, rows = image.device, list[Row]()
    if device.type != "cuda":
        return rows
    for side in SIDES:
        scaled = F.interpolate(image, size=(side, side), mode="bilinear")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        title = f"peak memory of a step, batch {len(image)}, {side} px"
        try:
            step = Step(model, scaled, factors, compiled)
            for _ in range(WARM_UP):
                step()
        except torch.OutOfMemoryError:
            print(
                f"{len(image)} images of {side} px do not fit into the card's memory.", flush=True
            )
            break
        rows.append(Row(title, torch.cuda.max_memory_allocated(device) / 2**20, "MiB"))
    return rows


def arithmetic_share(step: Callable[[], None], device: torch.device) -> float:
    """Share of a step's operators' time that goes to convolutions and matrix products."""
    of_card = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + of_card]) as seen:
        step()
    spent = {
        e.key: e.self_device_time_total if of_card else e.self_cpu_time_total
        for e in seen.key_averages()
    }
    return float(sum(t for name, t in spent.items() if name in ARITHMETIC) / sum(spent.values()))


def busy(step: Callable[[], None], device: torch.device) -> float:
    """Share of the time of some steps in which the card runs a kernel."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        started = now(device)
        for _ in range(PROFILED):
            step()
        elapsed = now(device) - started
    return float(sum(e.self_device_time_total for e in seen.key_averages()) / 1e6 / elapsed)
