"""A ``diffcf`` command in a process of its own, and the lock that it holds with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

__all__ = ["RunError", "claimed", "minutes", "run_process"]

_LAST_LINES = 8
_GLANCE = 0.2
# As in the Makefile: glibc's habit of giving memory back would count against a processor budget.
_ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_MMAP_THRESHOLD_": "2000000000",
}


class RunError(RuntimeError):
    """A stage of a run failed; the message ends with its last lines."""


@contextmanager
def claimed(folder: Path) -> Iterator[int | None]:
    """The folder's lock as a file descriptor, to be held by child processes too; None if taken."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor if lock_descriptor(descriptor, blocking=False) else None
    finally:
        # Closing lets go, unless a child still holds it. (Unlocking would let go for the child.)
        os.close(descriptor)


def run_process(arguments: Sequence[str], log: Path, lock: int, threads: int) -> None:
    """``diffcf <arguments>`` in a fresh process, its output at the end of ``log``.

    On a terminal the output is shown as well, progress bars and all. The process holds ``lock``
    (see :func:`claimed`) for as long as it lives, even where this one is killed.

    Raises:
        RunError: when it fails, with its last lines.
    """
    started = time.perf_counter()
    with log.open("ab") as sink:
        sink.write(f"\n$ diffcf {' '.join(arguments)}\n".encode())
        sink.flush()
        beginning = sink.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "diffcf", *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_ALLOCATOR | os.environ | {"OMP_NUM_THREADS": str(threads)},
            pass_fds=(lock,) if os.name == "posix" else (),
        )
    status = _wait(child, log, beginning)
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        last = "\n".join(f"    {line}" for line in _last_lines(log, beginning))
        raise RunError(
            f"{arguments[0]} {how} after {minutes(time.perf_counter() - started)}; all of it is in "
            f"{log}:\n{last}"
        )


def minutes(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _wait(child: subprocess.Popen[bytes], log: Path, beginning: int) -> int:
    """Wait for the process; on a terminal, show what it writes meanwhile, progress bars and all."""
    try:
        if not sys.stdout.isatty():
            return child.wait()
        with log.open("rb") as written:
            written.seek(beginning)
            running = True
            while running:
                running = child.poll() is None
                sys.stdout.buffer.write(written.read())
                sys.stdout.flush()
                time.sleep(_GLANCE if running else 0)
        return child.wait()
    except KeyboardInterrupt:
        child.wait()  # Ctrl-C reached it as well, and it is saving its checkpoint
        raise


def _last_lines(log: Path, beginning: int) -> list[str]:
    text = log.read_bytes()[beginning:].decode(errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return lines[-_LAST_LINES:]
