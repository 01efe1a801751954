"""Runs of diffcf in processes of their own, and SIGKILL for them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from processes import in_background

__all__ = ["finished", "in_background", "killed", "until"]


def until(condition: Callable[[], bool], process: BaseProcess, seconds: float = 120.0) -> None:
    """Wait for something, or for the end of the process; AssertionError when neither comes."""
    end = time.monotonic() + seconds
    while not condition() and process.is_alive():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def killed(process: BaseProcess) -> bool:
    """Whether SIGKILL met it alive; else it had ended."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def finished(process: BaseProcess, log: Path) -> None:
    """Wait for a good end."""
    process.join(300)
    assert process.exitcode == 0, log.read_text()[-3000:]
