"""Processes of their own, forked off a server that has imported everything: none pays for imports.

The environment in them is that of the server's start, and not of this process: set what they need.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from small_runs import draw_nothing
from torch.multiprocessing import start_processes

_CONTEXT = multiprocessing.get_context("forkserver")
# By module: rooms and the command line open their doors when they are asked.
_CONTEXT.set_forkserver_preload(["diffcf.training.cli", "data_modules.pendulum", "small_runs"])


def in_two(function: Callable[[int, str, str], None], folder: Path) -> None:
    """``function(rank, store, out)`` in two processes, which meet at the file ``store``.

    ``out`` is ``folder``. An error in either is raised here.
    """
    arguments = (str(folder / "store"), str(folder))
    start_processes(function, arguments, nprocs=2, start_method="forkserver")


def in_background(
    arguments: list[str], log: Path, before: Callable[[], None] | None = None
) -> BaseProcess:
    """``diffcf <arguments>``; ``before`` is called first, there."""
    process = _CONTEXT.Process(target=_run, args=(arguments, log, before))
    process.start()
    return process


def as_torchrun(arguments: list[str], log: Path) -> list[int | None]:
    """``diffcf <arguments>`` in two processes, in the surroundings that torchrun gives them.

    The exit status of each. They leave no pictures.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    two = [in_background(arguments, log, partial(_surround, rank, port)) for rank in (0, 1)]
    for process in two:
        process.join(300)
        process.kill()  # or it would outlive the test
        process.join()
    return [process.exitcode for process in two]


def _surround(rank: int, port: int) -> None:
    alone = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2}
    shared = {"LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run = {"TORCHELASTIC_RUN_ID": "tests", "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(value) for name, value in (alone | shared | run).items()}
    draw_nothing(pytest.MonkeyPatch())


def _run(arguments: list[str], log: Path, before: Callable[[], None] | None) -> None:
    with log.open("a") as sink:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(sink.fileno(), stream.fileno())
    from diffcf.commands.main import main

    if before is not None:
        before()
    sys.exit(main(arguments))
