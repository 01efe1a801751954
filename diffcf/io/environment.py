"""The machine: versions of packages, the device's name, and clocks that wait for the device."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("diffcf", "torch", "lightning", "torchmetrics", "zuko", "jsonargparse")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def now(device: torch.device) -> float:
    """Seconds, once the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def work(device: torch.device) -> float:
    """Seconds of work: on the processor, of all threads of this process; on a card, wall time.

    Processor time, unlike wall time, is nearly the same beside other programs.
    """
    return time.process_time() if device.type == "cpu" else now(device)
