"""Time on a device, which may still be at work when Python goes on."""

from __future__ import annotations

import time

import torch

__all__ = ["now", "work"]


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
