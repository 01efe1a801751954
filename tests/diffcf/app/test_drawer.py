from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from diffcf.app.drawer import InferenceThread, LatestOnlyQueue

IMAGE = object()


def _question(number: int, draw: Any, image: object = IMAGE) -> Any:
    return SimpleNamespace(number=number, draw=draw, start=image)


def test_a_question_that_is_superseded_before_its_turn_is_never_drawn() -> None:
    drawn: list[int] = []
    shown: list[int] = []
    go = threading.Event()

    def answer(number: int) -> Any:
        def draw() -> int:
            go.wait(5)
            drawn.append(number)
            return number

        return _question(number, draw)

    async def visit() -> None:
        drawer = LatestOnlyQueue(
            InferenceThread(), lambda asked, drawing, _: shown.append(drawing), print
        )
        first = asyncio.create_task(drawer.ask(answer(1)))
        await asyncio.sleep(0.05)
        assert drawer.busy
        for number in (2, 3, 4):
            await drawer.ask(answer(number))  # returns at once: the first call draws them
        go.set()
        await first
        assert not drawer.busy

    asyncio.run(visit())
    assert drawn == [1, 4] and shown == [1, 4]


def test_an_answer_about_an_image_that_was_left_is_not_shown() -> None:
    shown: list[str] = []
    go = threading.Event()

    async def visit() -> None:
        drawer = LatestOnlyQueue(
            InferenceThread(), lambda asked, drawing, _: shown.append(drawing), print
        )
        old = _question(1, lambda: go.wait(5) and "old", object())
        first = asyncio.create_task(drawer.ask(old))
        await asyncio.sleep(0.05)
        await drawer.ask(_question(1, lambda: "new"))
        go.set()
        await first

    asyncio.run(visit())
    assert shown == ["new"]


def test_a_tab_lives_on_after_an_error() -> None:
    shown: list[str] = []
    failed: list[Exception] = []

    def broken() -> str:
        raise RuntimeError("out of memory")

    async def visit() -> None:
        drawer = LatestOnlyQueue(
            InferenceThread(), lambda asked, drawing, _: shown.append(drawing), failed.append
        )
        await drawer.ask(_question(1, broken))
        await drawer.ask(_question(2, lambda: "fine"))

    asyncio.run(visit())
    assert [str(error) for error in failed] == ["out of memory"] and shown == ["fine"]
