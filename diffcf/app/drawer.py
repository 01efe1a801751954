"""Networks at work: one at a time for all tabs, and of each tab only the newest question."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from diffcf.app.session import Query
from diffcf.app.worlds import Result

T = TypeVar("T")


class InferenceThread:
    """One thread for everything slow: networks share the processor, and draw one after another."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="diffcf-draws")

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, without holding up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class LatestOnlyQueue:
    """Answers a tab's questions; one that is superseded before its turn is never drawn.

    Args:
        workshop: shared by all tabs.
        show: gets each question, its drawing, and the seconds that it took, waiting included.
        fail: gets what a drawing raised.
    """

    def __init__(
        self,
        workshop: InferenceThread,
        show: Callable[[Query, Result, float], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self.workshop, self.show, self.fail = workshop, show, fail
        self._inbox: deque[tuple[Query, float]] = deque(
            maxlen=1
        )  # a newer question drops the older
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._busy

    async def ask(self, asked: Query) -> None:
        """Draw ``asked`` when it is this tab's turn, unless another question comes first."""
        self._inbox.append((asked, time.perf_counter()))
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                try:
                    answered, drawing, since = await self.workshop.run(self._turn)
                except Exception as error:  # whatever it is, the tab must live on
                    self.fail(error)
                    continue
                # Answers on the way to the newest show where a slider went; not those of an image
                # that was left.
                if not self._inbox or self._inbox[0][0].start is answered.start:
                    self.show(answered, drawing, time.perf_counter() - since)
        finally:
            self._busy = False

    def _turn(self) -> tuple[Query, Result, float]:
        asked, since = self._inbox.pop()
        return asked, asked.draw(), since
