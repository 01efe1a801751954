"""Reading ahead and writing behind: in order, in bounded memory, and no error is lost."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import closing

import pytest

from diffcf.io.streaming import WriteBehind, read_ahead


class Counted:
    """Counts those of its kind that are alive, and the most at once."""

    alive = most = 0
    lock = threading.Lock()

    def __init__(self, number: int) -> None:
        self.number = number
        weakref.finalize(self, Counted.change, -1)
        Counted.change(1)

    @classmethod
    def change(cls, by: int) -> None:
        with cls.lock:
            cls.alive += by
            cls.most = max(cls.most, cls.alive)


@pytest.fixture(autouse=True)
def _none_alive() -> None:
    Counted.alive = Counted.most = 0


@pytest.mark.parametrize(("count", "size", "ahead"), [(300, 5, 2), (7, 3, 4), (40, 1, 1)])
def test_few_batches_are_in_memory_however_many_are_read(count: int, size: int, ahead: int) -> None:
    batches = (list(range(k, min(k + size, count))) for k in range(0, count, size))
    found: list[int] = []
    for batch in read_ahead(Counted, batches, ahead):
        found += [item.number for item in batch]
    assert found == list(range(count))
    assert Counted.most <= (ahead + 2) * size


def test_what_came_before_an_error_is_handed_out() -> None:
    def read(item: int) -> int:
        if item in (5, 9):
            raise ValueError(f"broken {item}")
        return item

    found: list[int] = []
    with pytest.raises(ValueError, match="broken 5"):
        for batch in read_ahead(read, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]):
            found += batch
    assert found == [0, 1, 2, 3]


def test_who_leaves_early_has_nothing_read_any_more() -> None:
    with closing(read_ahead(Counted, ([k] for k in range(1000)))) as batches:
        next(batches)
    assert not [t for t in threading.enumerate() if t.name.startswith("read_ahead")]
    assert Counted.most <= 4


def test_jobs_are_done_in_order_by_one_thread_and_few_wait() -> None:
    done: list[tuple[int, int]] = []
    with WriteBehind(behind=3) as writer:
        for k in range(50):
            item = Counted(k)
            writer.put(lambda item=item: done.append((item.number, threading.get_ident())))  # type: ignore[misc]
            del item
    assert [number for number, _ in done] == list(range(50))
    assert len({thread for _, thread in done} | {threading.get_ident()}) == 2
    assert Counted.most <= 3 + 2


def fail() -> None:
    raise OSError("full")


def test_an_error_is_raised_once_and_ends_the_writing() -> None:
    done: list[int] = []
    with pytest.raises(OSError, match="full"), WriteBehind() as writer:
        for k in range(100):
            writer.put(fail if k == 3 else lambda k=k: done.append(k))  # type: ignore[misc]
    assert done == [0, 1, 2]


@pytest.mark.parametrize("job", [None, fail])
def test_where_the_block_fails_what_was_put_is_done(job: Callable[[], None] | None) -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), WriteBehind(behind=10) as writer:
        for k in range(4):
            writer.put(lambda k=k: done.append(k))  # type: ignore[misc]
        if job is not None:
            writer.put(job)
        raise KeyboardInterrupt
    assert done == [0, 1, 2, 3]
