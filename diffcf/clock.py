"""Wall time of a device, which may still be at work when Python goes on."""

from __future__ import annotations

import time

import torch

__all__ = ["now"]


def now(device: torch.device) -> float:
    """Seconds, once the device has done all that it was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
