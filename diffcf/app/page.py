"""The explorer's server, with one :class:`Controller` for each browser tab."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from nicegui import app, ui
from nicegui.events import UploadEventArguments
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffcf.api import Model
from diffcf.app.asking import parse_field
from diffcf.app.elements import png
from diffcf.app.gallery import MAX_BYTES, Subject, uploaded
from diffcf.app.inference import InferenceThread, LatestOnlyQueue, Query, Result, open_worlds
from diffcf.app.session import Session, causal_graph
from diffcf.app.view import View
from diffcf.io import FORMATS, ImageTransform, to_picture

REFUSED = f"That file was refused: upload a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} of at most "
REFUSED += f"{MAX_BYTES // 10**6} MB."
OVERHEAD = 100_000  # bytes that a request may have besides an upload


@dataclass(frozen=True)
class Explorer:
    """What all tabs share."""

    name: str  # of the model, for people
    model: Model
    subjects: list[Subject]  # to pick from
    transform: ImageTransform  # of uploads
    thread: InferenceThread = field(default_factory=InferenceThread)  # all networks run on it
    seed: int = 0  # of the exogenous noise of discrete factors


class Controller:
    """One tab: passes what a visitor does to the session, and its results to the view."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.session: Session | None = None
        self.result: Result | None = None  # the one that is shown
        self.queue = LatestOnlyQueue(explorer.thread, self._show, self._fail)
        model = explorer.model
        about = f"{explorer.name} · {type(model.module).__name__} · {model.device}"
        self.view = View(about, causal_graph(model), explorer.subjects, self)
        if explorer.subjects:
            ui.timer(0, lambda: self.pick(0), once=True)

    async def pick(self, place: int) -> None:
        """Open one of the images offered."""
        await self._open(lambda: self.explorer.subjects[place], place)

    async def upload(self, event: UploadEventArguments) -> None:
        """Open a file that the browser sent; its name is not used."""
        self.view.upload.reset()
        content = await event.file.read()
        await self._open(partial(uploaded, content, self.explorer.transform), None)

    def refuse(self) -> None:
        """Explain that the browser or the server did not accept a file."""
        self.view.upload.reset()
        self.view.notify(REFUSED)

    def download(self) -> None:
        """Send the counterfactual, pixel by pixel."""
        if self.result is not None:
            content = png(to_picture(self.result.image))
            ui.download.content(content, "counterfactual.png", "image/png")

    async def download_whole(self) -> None:
        """Send the counterfactual put back into the picture that it is a part of, at its size."""
        if self.session is None or (result := self.result) is None:
            return
        subject = self.session.start.subject
        try:
            picture = await self.explorer.thread.run(lambda: subject.whole(result.image))
        except Exception as error:  # the file may be gone by now
            self._fail(error)
            return
        if picture is not None:
            ui.download.content(png(picture), "counterfactual_whole.png", "image/png")

    async def ask(self, text: str) -> None:
        """Set in this step what the field says, and nothing else."""
        if self.session is None:
            return
        try:
            self.session.replace(parse_field(text, self.session.graph))
        except ValueError as error:
            self.view.ask.show_error(str(error))
            return
        self.view.ask.show_error(None)
        await self._ask(self.session)

    async def take(self) -> None:
        """Make the counterfactual that is shown the session's next step."""
        if (result := self.result) is not None:
            await self.change(lambda session: session.take(result))

    async def change(self, change: Callable[[Session], None]) -> None:
        """Make a change of the session, and show what follows."""
        if self.session is None:
            return
        try:
            change(self.session)
        except ValueError as error:
            self.view.notify(str(error))
        await self._ask(self.session)

    async def _open(self, subject: Callable[[], Subject], place: int | None) -> None:
        self._busy(True)
        model, seed = self.explorer.model, self.explorer.seed
        try:
            worlds = await self.explorer.thread.run(lambda: open_worlds(model, subject(), seed))
        except Exception as error:  # whatever a visitor sends, the tab must remain usable
            self._fail(error)
            return
        self.session, self.result = Session(worlds), None
        self.view.show_subject(worlds, place)
        await self._ask(self.session)

    async def _ask(self, session: Session) -> None:
        """Show what the causal model predicts at once, and the image when it is generated."""
        self.view.show_state(session)
        self._busy(True)
        await self.queue.put(session.query())

    def _show(self, query: Query, result: Result, seconds: float) -> None:
        session = self.session
        if session is None or query.start is not session.start:
            return
        self.result = result
        self.view.show_result(session.start.subject.image, result)
        if query.version == session.version:
            generated = f"generated in {seconds:.2f} s" if query.do is not None else ""
            reader = f"read back by {query.start.reader}" if query.start.reader else ""
            self.view.summary = " · ".join(part for part in (generated, reader) if part)
            self.view.show_state(session)
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.view.show_busy(busy, can_take=self.session is not None and bool(self.session.do))

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ValueError):  # not the visitor's mistake
            traceback.print_exception(error)
        self._busy(False)
        self.view.notify(str(error).splitlines()[0] if str(error) else type(error).__name__)


def tab(explorer: Explorer) -> None:
    """The page of one tab."""
    Controller(explorer)


def serve(explorer: Explorer, host: str, port: int, only_here: bool, show: bool) -> None:
    """Serve the page until Ctrl-C; ``show`` opens a browser.

    ``only_here`` is whether ``host`` is a loopback address, which only this machine reaches.
    """
    app.add_middleware(BodyLimit, most=MAX_BYTES + OVERHEAD)
    if only_here:
        # Another site's name that resolves to this machine is refused (DNS rebinding).
        names = ["127.0.0.1", "localhost", host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)
    started = f"The explorer of {explorer.name}: http://{host}:{port} (Ctrl-C ends it)"
    app.on_startup(lambda: print(started, flush=True))

    ui.page("/", title=f"What if? {explorer.name}")(partial(tab, explorer))
    ui.run(
        host=host,
        port=port,
        show=show,
        reload=False,
        dark=None,
        tailwind=False,
        reconnect_timeout=30,
        show_welcome_message=False,
    )


class BodyLimit:
    """Refuses requests whose body is longer than ``most`` bytes, with status 413.

    A stated length is trusted only where it is too long: else the bytes are counted.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self.most:
            await PlainTextResponse("The upload is too large.", 413)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most:
                raise HTTPException(413, "The upload is too large.")
            return message

        await self.app(scope, counted, send)
