"""Time on a device, which may still be at work when Python goes on."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch


def now(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def work(device: torch.device) -> float:
    """Seconds of work: this process's on the processor, all threads added; a card's by the wall.

    Unlike wall time it is nearly the same beside other programs.
    """
    return time.process_time() if device.type == "cpu" else now(device)


_PACKAGES = ("diffcf", "torch", "lightning", "torchmetrics", "zuko", "jsonargparse")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        lines = [x for x in cpu_info.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {torch.get_num_threads()} threads"
