from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from diffcf.app.inference import InferenceThread, LatestOnlyQueue

IMAGE = object()


def _query(run: Any, image: object = IMAGE) -> Any:
    return SimpleNamespace(run=run, start=image)


def test_a_query_that_is_replaced_while_it_waits_never_runs() -> None:
    ran: list[int] = []
    shown: list[int] = []
    go = threading.Event()

    def counted(number: int) -> Any:
        def run() -> int:
            go.wait(5)
            ran.append(number)
            return number

        return _query(run)

    async def visit() -> None:
        queue = LatestOnlyQueue(
            InferenceThread(), lambda query, result, _: shown.append(result), print
        )
        first = asyncio.create_task(queue.put(counted(1)))
        await asyncio.sleep(0.05)
        assert queue.busy
        for number in (2, 3, 4):
            await queue.put(counted(number))  # returns at once: the first call runs them
        go.set()
        await first
        assert not queue.busy

    asyncio.run(visit())
    assert ran == [1, 4] and shown == [1, 4]


def test_the_result_of_an_image_that_was_left_is_not_shown() -> None:
    shown: list[str] = []
    go = threading.Event()

    async def visit() -> None:
        queue = LatestOnlyQueue(
            InferenceThread(), lambda query, result, _: shown.append(result), print
        )
        old = _query(lambda: go.wait(5) and "old", object())
        first = asyncio.create_task(queue.put(old))
        await asyncio.sleep(0.05)
        await queue.put(_query(lambda: "new"))
        go.set()
        await first

    asyncio.run(visit())
    assert shown == ["new"]


def test_a_tab_remains_usable_after_an_error() -> None:
    shown: list[str] = []
    failed: list[Exception] = []

    def broken() -> str:
        raise RuntimeError("out of memory")

    async def visit() -> None:
        queue = LatestOnlyQueue(
            InferenceThread(), lambda query, result, _: shown.append(result), failed.append
        )
        await queue.put(_query(broken))
        await queue.put(_query(lambda: "fine"))

    asyncio.run(visit())
    assert [str(error) for error in failed] == ["out of memory"] and shown == ["fine"]
