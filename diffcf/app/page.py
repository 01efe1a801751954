"""The explorer's server."""

from __future__ import annotations

from functools import partial

from nicegui import app, ui
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffcf.app.controller import Controller, Explorer
from diffcf.app.gallery import MAX_BYTES

OVERHEAD = 100_000  # bytes that a request may have besides an upload


def tab(explorer: Explorer) -> None:
    """The page of one tab, whose address may be a link."""
    Controller(explorer, ui.context.client.request.query_params.multi_items())


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
