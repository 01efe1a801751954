"""The factors of the page: a slider, a switch or a menu each, with what becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from diffcf.app.session import Role
from diffcf.graph import Factor

__all__ = ["FactorRow", "columns_head"]

PINS = {
    "set": ("push_pin", "set by you: leave it to its causes again"),
    "held": ("lock", "set in an earlier step"),
    "moved": ("o_push_pin", "moves with its causes: set it"),
    "still": ("o_push_pin", "as in the factual: set it"),
}
STEPS = 1000
"""Places of a slider."""


def columns_head(exact: bool) -> None:
    """The titles of the columns of numbers."""
    with ui.element("div").classes("factor-line columns-head"):
        ui.element("span")
        ui.label("factor")
        for title in ("target", "read back", *(["exact"] if exact else [])):
            ui.label(title).classes("number")


class _Slider(ui.slider):
    """A slider that follows the hand at once: the page's own view of it comes back only if other."""

    LOOPBACK = False


class FactorRow:
    """One factor.

    Args:
        factor: its kind and range.
        exact: whether there is a column for the exact value.
        on_set: gets the name and a native number, or a category.
        on_toggle: gets the name, when its pin is pressed.
    """

    def __init__(
        self,
        factor: Factor,
        exact: bool,
        on_set: Callable[[str, float | str], Awaitable[None]],
        on_toggle: Callable[[str], Awaitable[None]],
    ) -> None:
        self.factor, self.on_set = factor, on_set
        name = factor.name.replace("_", " ")
        with ui.element("div").classes("factor").props(f'data-factor="{factor.name}"') as self.root:
            with ui.element("div").classes("factor-line"):
                self.pin = ui.button(on_click=lambda: on_toggle(factor.name))
                self.pin.props("flat round dense size=sm").classes("pin")
                ui.label(name).classes("factor-name")
                self.target = ui.label().classes("number target").mark("target")
                self.read = ui.label().classes("number aside read")
                self.exact = ui.label().classes("number aside exact") if exact else None
            self._control(name)

    def _control(self, name: str) -> None:
        factor, event = self.factor, "update:model-value"
        if factor.kind == "continuous":
            step = (factor.high - factor.low) / STEPS
            self._small = step / 100
            with ui.element("div").classes("track"):
                self.tick = ui.element("i").classes("tick").props('title="factual"')
                self.control: Any = _Slider(min=factor.low, max=factor.high, step=step)
                self.control.on(event, self._moved, throttle=0.05)
            with ui.element("div").classes("ends"):
                ui.label(factor.text(0))
                self.factual = ui.label()
                ui.label(factor.text(1))
        else:
            with ui.element("div").classes("choice"):
                if factor.kind == "binary":
                    self.control = ui.switch().props("dense")
                else:
                    self.control = ui.select(list(factor.categories), value=factor.categories[0])
                    self.control.props("dense outlined options-dense")
                self.control.on_value_change(self._chosen)
                self.factual = ui.label()
        self.control.props(f'aria-label="{name}"')

    async def _moved(self, event: GenericEventArguments) -> None:
        # Only the browser sends this event; values that the page itself sets do not come back.
        if event.args is not None:
            await self.on_set(self.factor.name, float(event.args))

    async def _chosen(self, event: Any) -> None:
        if event.value != self._shown:
            await self.on_set(self.factor.name, self._native(event.value))

    def _native(self, value: Any) -> float | str:
        return float(value) if self.factor.kind == "binary" else str(value)

    def place(self, role: Role, target: float, factual: float) -> None:
        """Show where the factor is, at once; values are in [0, 1] units."""
        factor = self.factor
        icon, says = PINS[role]
        self.root.classes(remove="set held moved still", add=role)
        self.pin.props(f'icon="{icon}" title="{says}" aria-label="{factor.name}: {says}"')
        self.pin.props(f"aria-pressed={str(role == 'set').lower()}").set_enabled(role != "held")
        self.target.set_text(factor.text(target))
        self.factual.set_text(f"factual {factor.text(factual)}")
        if factor.kind == "continuous":
            self.tick.style(f"left:{100 * min(max(factual, 0), 1):.2f}%")
            shown: Any = factor.low + min(max(target, 0), 1) * (factor.high - factor.low)
        elif factor.kind == "binary":
            shown = target >= 0.5
        else:
            shown = factor.text(target)
        self._shown = shown
        if factor.kind != "continuous" or abs(shown - (self.control.value or 0)) > self._small:
            self.control.set_value(shown)

    def tell(self, read: float | None, exact: float | None) -> None:
        """What the drawing shows, in [0, 1] units; None for what nobody knows."""
        self.read.set_text("–" if read is None else self.factor.text(read))
        if self.exact is not None:
            self.exact.set_text("–" if exact is None else self.factor.text(exact))
