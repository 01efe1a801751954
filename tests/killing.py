"""Runs of diffcf in processes of their own, and SIGKILL for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

# A server that has imported everything, off which every run is forked: no run pays for imports.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["diffcf.commands.main"])

__all__ = ["finished", "in_background", "killed", "until"]


def in_background(
    arguments: list[str], log: Path, before: Callable[[], None] | None = None
) -> BaseProcess:
    """``diffcf <arguments>``; ``before`` is called first, there."""
    process = _CONTEXT.Process(target=_run, args=(arguments, log, before))
    process.start()
    return process


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


def _run(arguments: list[str], log: Path, before: Callable[[], None] | None) -> None:
    with log.open("a") as sink:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(sink.fileno(), stream.fileno())
    from diffcf.commands.main import main

    if before is not None:
        before()
    sys.exit(main(arguments))
