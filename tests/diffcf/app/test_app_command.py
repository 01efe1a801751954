from __future__ import annotations

import asyncio
import socket
import sys
from io import BytesIO
from typing import Any

import pytest
import torch
from PIL import Image

from diffcf.app.elements import coloured, difference, png
from diffcf.app.page import BodyLimit
from diffcf.commands import app as command
from diffcf.commands.main import main
from diffcf.io.errors import SettingsError
from diffcf.io.pixels import to_picture


def test_without_the_extra_the_remedy_is_one_sentence(monkeypatch, capsys) -> None:
    for name in ("nicegui", "starlette"):  # which comes with it
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "diffcf.commands.app")
    assert main(["app", "pendulum"]) == 2
    said = capsys.readouterr().err
    assert "pip install 'diffcf[app]'" in said and said.count("\n") == 1


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="name another --port"):
            command.app(["pendulum", "--port", str(taken.getsockname()[1])])
    with pytest.raises(SettingsError):
        command.app(["pendulum", "--host", "no.such.host.invalid"])


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.5", False),
        ("example.org", False),
    ],
)
def test_only_loopback_needs_no_warning(host: str, here: bool) -> None:
    assert command._is_loopback(host) == here


def _post(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> Any:
    """What an application behind a limit of 10 bytes reads, or the status that refuses it."""
    sent: list[dict] = []
    queue = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]

    async def receive() -> dict:
        return queue.pop(0) if queue else {"type": "http.request", "body": b""}

    async def send(message: dict) -> None:
        sent.append(message)

    async def reads(scope: dict, receive: Any, send: Any) -> None:
        body = b""
        while message := await receive():
            body += message["body"]
            if not message.get("more_body"):
                break
        sent.append({"body": body})

    scope = {"type": "http", "method": "POST", "headers": headers}
    asyncio.run(BodyLimit(reads, 10)(scope, receive, send))
    return sent[0].get("status", sent[0].get("body"))


def test_requests_are_bounded_by_what_they_send_not_by_what_they_say() -> None:
    assert _post([b"12345", b"12345"], []) == b"1234512345"
    assert _post([b"12345"], [(b"content-length", b"11")]) == 413
    assert _post([b"12345"], [(b"content-length", b"x")]) == 413
    with pytest.raises(Exception, match="too large"):
        _post([b"12345", b"123456"], [(b"content-length", b"5")])


def test_a_difference_is_coloured_over_its_scale() -> None:
    one = torch.full((3, 2, 2), 1.0)
    other = one.clone()
    other[0, 0, 0] = 0.8  # a tenth of the range, in one channel
    size = difference(one, other)
    small, large = (_pixels(png(coloured(size, one, scale))) for scale in (1.0, 0.1))
    assert small[0, 1] == large[0, 1] == (255, 255, 255)
    assert large[0, 0] == (38, 10, 60) != small[0, 0]
    assert _pixels(png(to_picture(other)))[0, 0] == (230, 255, 255)


def _pixels(content: bytes) -> dict[tuple[int, int], tuple[int, ...]]:
    picture = Image.open(BytesIO(content)).convert("RGB")
    return {(y, x): picture.getpixel((x, y)) for x in range(2) for y in range(2)}
