"""The factors of the page: a slider, a switch or a menu each, with what becomes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from diffcf.app.session import Role
from diffcf.causal import Factor

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
    """A slider that follows the hand: the page sends its own value only where it is another."""

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
        self._with_exact = exact
        name = factor.name.replace("_", " ")
        with ui.element("div").classes("factor").props(f'data-factor="{factor.name}"') as self.root:
            with ui.element("div").classes(f"factor-line {factor.kind}"):
                self.pin = ui.button(color=None, on_click=lambda: on_toggle(factor.name))
                self.pin.props("flat round dense size=sm").classes("pin")
                ui.label(name).classes("factor-name")
                if factor.kind == "continuous":
                    self._numbers()
                else:
                    self.control: Any = self._choice()
            self._slider() if factor.kind == "continuous" else self._words()
        self.control.props(f'aria-label="{name}"')

    def _numbers(self) -> None:
        self.target = ui.label().classes("number target")
        self.read = ui.label().classes("number aside read")
        self.exact = ui.label().classes("number aside exact") if self._with_exact else None

    def _slider(self) -> None:
        factor = self.factor
        step = (factor.high - factor.low) / STEPS
        self._small = step / 100
        with ui.element("div").classes("track"):
            self.tick = ui.element("i").classes("tick").props('title="factual"')
            self.control = _Slider(min=factor.low, max=factor.high, step=step)
            self.control.on("update:model-value", self._moved, throttle=0.05)
        with ui.element("div").classes("ends"):
            ui.label(factor.text(0))
            self.factual = ui.label()
            ui.label(factor.text(1))

    def _choice(self) -> Any:
        if self.factor.kind == "binary":
            control: Any = ui.switch().props("dense")
        else:
            control = ui.select(list(self.factor.categories), value=self.factor.categories[0])
            control.props("dense outlined options-dense")
        control.on_value_change(self._chosen)
        return control

    def _words(self) -> None:
        """What a discrete factor is, which a slider's columns of numbers would not hold."""
        with ui.element("div").classes("words"):
            self.factual = ui.label()
            self.read = ui.label().classes("aside read")
            self.exact = ui.label().classes("aside exact") if self._with_exact else None

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
        self.factual.set_text(f"factual {factor.text(factual)}")
        if factor.kind == "continuous":
            self.target.set_text(factor.text(target))
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
        self.read.set_text(self._told("read back", read))
        if self.exact is not None:
            self.exact.set_text(self._told("exact", exact))

    def _told(self, what: str, value: float | None) -> str:
        said = "–" if value is None else self.factor.text(value)
        return said if self.factor.kind == "continuous" else f"{what} {said}"
