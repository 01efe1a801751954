"""``diffcf app WEIGHTS``: the what-if explorer in the browser, on this machine only unless told."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diffcf.api import Model, load
from diffcf.app.drawer import InferenceThread
from diffcf.app.gallery import MAX_BYTES, Subject, from_data, from_folder, held_out
from diffcf.io import DataError, ImageFormat, SettingsError

HELD_OUT, OWN = 24, 200
"""Images offered, at most: of the data, and of one's own."""
ROOM = 100_000
"""Bytes that a request may have beside an upload."""


def app(args: Sequence[str]) -> None:
    """Command ``diffcf app``; ``--help`` lists the arguments."""
    parsed = _parser().parse_args(list(args))
    if find_spec("nicegui") is None:
        raise SettingsError("The explorer needs the extra 'app': run pip install 'diffcf[app]'.")
    _check_free(parsed.host, parsed.port)
    model = load(parsed.weights, parsed.device)
    subjects, size = _subjects(parsed, model)
    form = model.image_form(parsed.size or size)
    if parsed.images is not None:
        subjects = [*from_folder(parsed.images, form, OWN), *subjects]
    if not _is_loopback(parsed.host):
        print(
            f"diffcf: {parsed.host} is reachable from other machines, without password or "
            "encryption: anyone there can use the explorer.",
            file=sys.stderr,
        )
    _serve(Path(parsed.weights).stem, model, subjects, form, parsed)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf app", description="Explore counterfactuals.")
    parser.add_argument("weights", type=str, help="Checkpoint, weights file or shipped name.")
    parser.add_argument("--data", type=Path, help="YAML of the dataset, if weights name none.")
    parser.add_argument("--images", type=Path, help="Folder of own images to pick from.")
    parser.add_argument("--size", type=int, help="Side of uploads; as in training if left out.")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, …")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=8080, help="Port to listen on.")
    parser.add_argument("--show", type=bool, default=False, help="Open a browser.")
    return parser


def _subjects(parsed: Any, model: Model) -> tuple[list[Subject], int | None]:
    """Held-out images, and their side."""
    try:
        module = held_out(model, parsed.weights, HELD_OUT, parsed.data)
    except (DataError, FileNotFoundError) as error:
        if parsed.data is not None:
            raise
        print(f"diffcf: no held-out images: {error}", file=sys.stderr)
        return [], None
    if module is None:
        print(
            f"diffcf: {parsed.weights} does not say what it was trained on, so there are no "
            "held-out images: name the data by --data.",
            file=sys.stderr,
        )
        return [], None
    subjects = from_data(module)
    return subjects, subjects[0].image.shape[-1]


def _serve(
    name: str, model: Model, subjects: list[Subject], form: ImageFormat, parsed: Any
) -> None:
    # Imported late: the rest of diffcf works without the extra.
    from nicegui import app as server
    from nicegui import ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from diffcf.app.page import Controller, Explorer

    explorer = Explorer(name, model, subjects, form, InferenceThread())
    server.add_middleware(BodyLimit, most=MAX_BYTES + ROOM)
    if _is_loopback(parsed.host):
        # Another site's name that leads here is not answered (DNS rebinding).
        server.add_middleware(
            TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", parsed.host]
        )
    url = f"http://{parsed.host}:{parsed.port}"
    server.on_startup(lambda: print(f"The explorer of {name}: {url} (Ctrl-C ends it)", flush=True))

    @ui.page("/", title=f"What if? {name}")
    def index() -> None:
        Controller(explorer)

    ui.run(
        host=parsed.host,
        port=parsed.port,
        show=parsed.show,
        reload=False,
        dark=None,
        tailwind=False,
        reconnect_timeout=30,
        show_welcome_message=False,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    """Raises SettingsError unless the port can be listened on."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({reason}): name another --port or --host."
        ) from None


class BodyLimit:
    """Refuses requests whose body is longer than ``most`` bytes, with status 413.

    What a request says of its length is believed only where it is too long; else it is counted.
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
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(413, "The upload is too large.")
            return message

        await self.app(scope, counted, send)
