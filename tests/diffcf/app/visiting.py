"""A visitor of the explorer without a browser: what the page's elements say, and what to do with
them (NiceGUI's simulation of a user)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ElementFilter, ui
from nicegui.testing import User, user_simulation

from diffcf.app.explorer import Explorer
from diffcf.app.page import tab

PATIENCE = 15  # seconds


class Visitor:
    """One tab of an explorer."""

    def __init__(self, user: User) -> None:
        self.user = user

    async def open(self, address: str = "/") -> None:
        await self.user.open(address)
        await self.until(lambda: self.idle and self.image("Counterfactual"))

    def all(self, kind: type = ui.element, **filters: Any) -> list[Any]:
        with self.user.client:
            return [each for each in ElementFilter(kind=kind, **filters) if self._seen(each)]

    @staticmethod
    def _seen(element: ui.element) -> bool:
        return all(each.visible for each in (element, *element.ancestors()))

    @property
    def idle(self) -> bool:
        (stage,) = (each for each in self.all() if "stage" in each.classes)
        return "busy" not in stage.classes

    def labelled(self, label: str) -> Any:
        """The control of that name, as a reader of the screen says it."""
        names = ("aria-label", "label")
        controls = (each for each in self.all() if each.props.get("role") != "group")
        (found,) = (each for each in controls if label in [each.props.get(n) for n in names])
        return found

    def button(self, name: str) -> Any:
        """The button of that name, as its text, its label or its title."""
        buttons = (each for each in self.all() if each.tag in ("q-btn", "button"))
        (found,) = (each for each in buttons if name in _names(each))
        return found

    @property
    def link(self) -> str:
        """Where the link to the answer leads."""
        (link,) = self.all(ui.link)
        return str(link.props["href"])

    def table(self) -> str:
        """What tables hold, as HTML."""
        return " ".join(each.content for each in self.all(ui.html) if "<table" in each.content)

    @staticmethod
    def is_nameless(element: ui.element) -> bool:
        """Whether it is a control or a picture, and a reader of the screen has no word for it."""
        if element.tag == "img":
            return not element.props.get("alt")
        if element.tag == "button":
            return not any(each.props.get("alt") for each in element.descendants())
        controls = ("q-btn", "q-slider", "q-toggle", "q-select", "q-input", "nicegui-input")
        return element.tag in controls and not any(_names(element))

    def image(self, start: str) -> Any:
        """The image whose text begins so."""
        shown = (e for e in self.all() if e.tag == "img" and e.props["alt"].startswith(start))
        return next((e for e in shown if e.props.get("src")), None)

    def says(self, text: str) -> bool:
        return any(text in (each.text or "") for each in self.all(ui.label))

    def alerts(self) -> list[str]:
        return self.user.notify.messages

    async def until(self, seen: Callable[[], Any]) -> None:
        for _ in range(PATIENCE * 50):
            if seen():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("not seen in time")

    async def press(self, text: str) -> None:
        await self.until(lambda: getattr(self.button(text), "enabled", True))
        self._handle(self.button(text), "click")

    async def write(self, label: str, value: Any, event: str = "keydown.enter") -> None:
        """Put a value into a field, and leave it by an event."""
        with self.user.client:
            self.labelled(label).set_value(value)
        self._handle(self.labelled(label), event)
        await asyncio.sleep(0.05)

    async def ask(self, text: str) -> None:
        """Write interventions, and wait for the answer or the refusal."""
        await self.write("Interventions", text)
        await self.until(lambda: self.idle)

    def _handle(self, element: ui.element, event: str) -> None:
        interaction = self.user.find(kind=type(element))
        interaction.elements = {element}
        interaction.trigger(event)


def _names(element: ui.element) -> list[str]:
    names = [element.props.get(name) for name in ("label", "aria-label", "title")]
    return [str(name) for name in names if name]


def visit(explorer: Explorer, visiting: Callable[[Visitor], Awaitable[None]]) -> None:
    """Run a visit of the explorer."""

    failed: list[Exception] = []  # raised once the simulation has ended, which else may hang

    async def run() -> None:
        async with user_simulation(lambda: tab(explorer)) as user:
            try:
                await visiting(Visitor(user))
            except Exception as error:
                failed.append(error)

    gc.freeze()  # or the simulation, which collects garbage, goes through all that is imported
    try:
        asyncio.run(run())
    finally:
        gc.unfreeze()
    for error in failed:
        raise error
