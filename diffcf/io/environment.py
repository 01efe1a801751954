"""The machine: its devices and their names, and clocks that wait for the device."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from diffcf.io.errors import UnavailableError
from diffcf.io.versions import UNKNOWN, versions


def device_of(name: str | torch.device) -> torch.device:
    """The device of a name, once it is known to work.

    Raises:
        UnavailableError: in one sentence, when there is no such device, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        at_hand = ["cpu"]
        if torch.accelerator.is_available():
            at_hand.append(str(torch.accelerator.current_accelerator()))
        if type(error) is RuntimeError and "device string" in str(error):
            reason = "is no device"
        else:
            reason = "does not work on this machine"
        raise UnavailableError(f"'{name}' {reason}: name {' or '.join(at_hand)}.") from None
    if device.type == "meta":
        raise UnavailableError("'meta' is a device that holds no values: name cpu.")
    return device


def device_name(device: torch.device) -> str:
    """The card's name, or the processor's with the number of threads; never an error."""
    try:
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):  # no such file on this system, or a driver that fails
        text = ""
    pairs = (line.partition(":") for line in text.splitlines())
    models = [value.strip() for key, _, value in pairs if key.strip() == "model name"]
    model = next(iter(models), "") or platform.processor() or platform.machine() or UNKNOWN
    return f"{model}, {torch.get_num_threads()} threads"


def describe_machine() -> dict[str, str]:
    """What a report of a fault should say: versions, system, and the devices that PyTorch sees."""
    devices = [torch.device("cpu")]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator()
        devices += [torch.device(str(kind), n) for n in range(torch.accelerator.device_count())]
    return {
        **versions(),
        "platform": platform.platform(),
        "devices": "; ".join(f"{device} ({device_name(device)})" for device in devices),
    }


def on_host(values: Tensor) -> bool:
    """Whether the host can look at values without waiting for a device.

    Checks of values are made where this is true: on a card they would stop the queue of work, so
    there the caller checks what it sends and what it gets back. A compiled step has no host.
    """
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


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
