"""Reading ahead of a computation and writing behind it, in threads and in bounded memory.

Threads suffice: Pillow decodes, and files are read and written, without holding Python's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Batches that are read, or being read, before they are asked for."""
BEHIND = 2
"""Batches that wait to be written, the one being written among them."""
READERS = 8


def read_ahead(
    read: Callable[[Item], Result], batches: Iterable[Sequence[Item]], ahead: int = AHEAD
) -> Generator[list[Result], None, None]:
    """``read`` of every item of every batch, in order, some batches before they are asked for.

    No more than ``ahead + 2`` batches are in memory at once: those ahead, the one handed out, and
    the one before it for as long as the caller keeps it. What ``read`` raises is raised when its
    batch is asked for, after all earlier ones were handed out. Close the iterator (``closing``)
    when it is left early: it then waits for the reads that have begun, and begins no other.

    >>> list(read_ahead(str.upper, [["a", "b"], ["c"]]))
    [['A', 'B'], ['C']]
    """
    waiting: deque[list[Future[Result]]] = deque()
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, READERS), "read_ahead")
    try:
        for batch in batches:
            waiting.append([pool.submit(read, item) for item in batch])
            if len(waiting) > ahead:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class WriteBehind:
    """Runs jobs in one thread of its own, one after another in the order in which they are put.

    The first error of a job is raised by the next :meth:`put`, or by :meth:`close`; the jobs after
    it are not run. As a context manager it closes at the end of the block. Where the block fails,
    the jobs that were put before are still done, and its own error is the one that is raised.

    Args:
        behind: jobs that may be unfinished; :meth:`put` waits where there are as many.
    """

    def __init__(self, behind: int = BEHIND) -> None:
        self.behind = behind
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, "write_behind")
        self._failed = False

    def put(self, job: Callable[[], None]) -> None:
        """Have ``job`` run; waits while too many are unfinished, and raises what one raised."""
        while self._waiting and (len(self._waiting) >= self.behind or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._run, job))

    def close(self) -> None:
        """Wait until all jobs are done; raises what one raised."""
        try:
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True)

    def _run(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(Exception):
                self.close()
