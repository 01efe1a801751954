"""What is done on the page: one :class:`Controller` carries it to a session, for every browser tab."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nicegui import ui
from nicegui.events import UploadEventArguments

from diffcf.api import Model
from diffcf.app.drawer import InferenceThread, LatestOnlyQueue
from diffcf.app.gallery import MAX_BYTES, Subject, uploaded
from diffcf.app.session import Query, Session
from diffcf.app.shown import png
from diffcf.app.view import View
from diffcf.app.worlds import Result, causal_graph, open_worlds
from diffcf.io import FORMATS, ImageFormat

REFUSED = f"That file was refused: upload a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} of at most "
REFUSED += f"{MAX_BYTES // 10**6} MB."


@dataclass(frozen=True)
class Explorer:
    """What all tabs share.

    Attributes:
        name: of the model, for people.
        model: that answers.
        subjects: images to pick from.
        form: what uploads become.
        workshop: where networks work.
    """

    name: str
    model: Model
    subjects: list[Subject]
    form: ImageFormat
    workshop: InferenceThread

    @property
    def has_exact(self) -> bool:
        """Whether any image may have exact counterfactuals."""
        return any(subject.has_exact for subject in self.subjects)


class Controller:
    """One tab: its view, its session, and the drawer between them."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.session: Session | None = None
        self.drawn: Result | None = None
        self.drawer = LatestOnlyQueue(explorer.workshop, self._show, self._fail)
        model = explorer.model
        about = f"{explorer.name} · {type(model.module).__name__} · {model.device}"
        images = [(subject.title, subject.image) for subject in explorer.subjects]
        self.view = View(about, causal_graph(model), images, explorer.has_exact, self)
        if images:
            ui.timer(0, lambda: self.pick(0), once=True)

    # --- what a visitor does ---

    async def pick(self, place: int) -> None:
        """One of the images offered."""
        await self._open(lambda: self.explorer.subjects[place], place)

    async def uploaded(self, event: UploadEventArguments) -> None:
        """A file that the browser sent; its name is the visitor's, and goes nowhere."""
        self.view.upload.reset()
        content = await event.file.read()
        await self._open(partial(uploaded, content, self.explorer.form), None)

    def refused(self) -> None:
        """A file that the browser or the server would not take."""
        self.view.upload.reset()
        self.view.say(REFUSED)

    async def set(self, name: str, value: float | str) -> None:
        """A slider was moved, or a value chosen."""
        await self._change(lambda session: session.set(name, value))

    async def toggle(self, name: str) -> None:
        """A pin was pressed."""
        await self._change(lambda session: session.toggle(name))

    async def take(self) -> None:
        """Go on from the counterfactual."""
        if self.drawn is not None:
            drawing = self.drawn
            await self._change(lambda session: session.take(drawing))

    async def undo(self) -> None:
        """Back by one change."""
        await self._change(Session.undo)

    async def restart(self) -> None:
        """Back to the image itself."""
        await self._change(Session.restart)

    def download(self) -> None:
        """The counterfactual, pixel by pixel."""
        if self.drawn is not None:
            ui.download.content(png(self.drawn.image), "counterfactual.png", "image/png")

    # --- from question to answer ---

    async def _open(self, subject: Callable[[], Subject], place: int | None) -> None:
        self._busy(True)
        model = self.explorer.model
        try:
            worlds = await self.explorer.workshop.run(lambda: open_worlds(model, subject()))
        except Exception as error:  # whatever a visitor sends, the tab must live on
            self._fail(error)
            return
        self.session, self.drawn = Session(worlds), None
        self.view.begin(worlds, place)
        await self._ask(self.session)

    async def _change(self, change: Callable[[Session], None]) -> None:
        if self.session is None:
            return
        try:
            change(self.session)
        except ValueError as error:
            self.view.say(str(error))
        await self._ask(self.session)

    async def _ask(self, session: Session) -> None:
        """Show what the causal model says at once; then the image, when it is drawn."""
        self.view.place(session)
        self._busy(True)
        await self.drawer.ask(session.asked())

    def _show(self, asked: Query, drawing: Result, seconds: float) -> None:
        session = self.session
        if session is None or asked.start is not session.start:
            return
        self.drawn = drawing
        self.view.show(session.start.subject.image, drawing)
        if asked.number == session.number:
            drawn = f"drawn in {seconds:.2f} s" if asked.do is not None else ""
            reader = "" if asked.start.reader is None else f"read back by {asked.start.reader}"
            self.view.told = " · ".join(part for part in (drawn, reader) if part)
            self.view.place(session)
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.view.busy(busy, can_take=self.session is not None and bool(self.session.pins))

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ValueError):  # nothing that a visitor can mend
            traceback.print_exception(error)
        self._busy(False)
        self.view.say(str(error).splitlines()[0] if str(error) else type(error).__name__)
