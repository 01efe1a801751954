"""A row of the page for each factor: its control, its pin, its values, and what is to say of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from nicegui import events, ui
from nicegui.elements.mixins.value_element import ValueElement

from diffcf.app.elements import Actions
from diffcf.app.session import Role
from diffcf.causal import Factor

PINS = {
    "set": ("push_pin", "let it follow its causes again"),
    "held": ("lock", "stays set"),
    "moved": ("o_push_pin", "set it to this value"),
    "still": ("o_push_pin", "set it to this value"),
}
"""Icon and tooltip of the pin, the button that sets a factor to its value, by the factor's role."""
STATE = {
    "set": "set by you",
    "held": "set in an earlier step",
    "moved": "follows its causes",
    "still": "as in the factual",
}
"""Of a factor, by its role."""
SLIDER_STEPS = 1000
SCRIPT = """<script>
const named = root => {
  const track = root.querySelector(".q-slider__track-container");
  for (const {name, value} of track ? [...root.attributes] : []) {
    if (name !== "role" && !name.startsWith("aria-")) continue;
    track.setAttribute(name, value);
    root.removeAttribute(name);
  }
};
new MutationObserver(changes => changes.forEach(({type, target}) => {
  if (type === "childList") target.querySelectorAll?.(".q-slider").forEach(named);
  else if (target.matches(".q-slider")) named(target);
})).observe(document, {subtree: true, childList: true, attributes: true,
  attributeFilter: ["role", "aria-label", "aria-valuenow", "aria-valuetext"]});
</script>"""
"""Quasar focuses the track inside a slider, and names the slider around it, which would leave what
is focused without a name and a value: the script moves them there."""


class _Slider(ui.slider):
    """A slider whose value the server does not send back to the browser that drags it."""

    LOOPBACK = False


class FactorRow:
    """One factor: a slider, a switch or a menu, its pin, and its values.

    ``with_exact`` is whether there is a column for the exact value.
    """

    def __init__(self, factor: Factor, with_exact: bool, actions: Actions) -> None:
        self.factor, self.with_exact, self.actions = factor, with_exact, actions
        name, continuous = factor.name.replace("_", " "), factor.continuous
        self._values: dict[str, str] = {}  # for a reader of the screen, by what they are
        with ui.element("div").classes("factor").props(f'data-factor="{factor.name}"') as self.root:
            self.root.props["role"], self.root.props["aria-label"] = "group", name
            with ui.element("div").classes(f"factor-line {factor.kind}"):
                toggle = partial(actions.change, lambda session: session.toggle(factor.name))
                self.pin = ui.button(color=None, on_click=toggle)
                self.pin.props("flat round dense size=sm").classes("pin")
                ui.label(name).classes("factor-name")
                if continuous:
                    self.target = ui.label().classes("number target")
                    self._readings("number aside")
                else:
                    self.control = self._choice()
            if continuous:
                self.control = self._slider()
            else:
                with ui.element("div").classes("words"):
                    self.factual = ui.label()
                    self._readings("aside")
            self.note, self.doubt = (ui.label().classes(kind) for kind in ("note", "doubt"))
        self.control.props(f'aria-label="{name}"')

    def _readings(self, classes: str) -> None:
        self.read = ui.label().classes(f"{classes} read")
        self.exact = ui.label().classes(f"{classes} exact") if self.with_exact else None

    def _slider(self) -> ValueElement:
        factor = self.factor
        low, high = (self._place(end) for end in (0.0, 1.0))
        step = 1 if self._whole else (high - low) / SLIDER_STEPS
        with ui.element("div").classes("track"):
            self.tick = ui.element("i").classes("tick").props('title="factual"')
            slider = _Slider(min=low, max=high, step=step)
            # Only the browser sends this event: values that the server sets do not come back.
            slider.on("update:model-value", self._slid, throttle=0.05)
        with ui.element("div").classes("ends"):
            ui.label(factor.text(0))
            self.factual = ui.label()
            ui.label(factor.text(1))
        return slider

    def _choice(self) -> ValueElement:
        control: ValueElement
        if self.factor.kind == "binary":
            control = ui.switch().props("dense")
        else:
            control = ui.select(list(self.factor.categories), value=self.factor.categories[0])
            control.props("dense outlined options-dense")
        return control.on_value_change(self._chosen)

    async def _slid(self, event: events.GenericEventArguments) -> None:
        if event.args is not None:
            await self._set(self._native(float(event.args)))

    @property
    def _whole(self) -> bool:
        """Whether the slider stops at the whole numbers alone."""
        return self.factor.kind == "integer" and self.factor.scale == "linear"

    def _place(self, scaled: float) -> float:
        """Where the slider stands: at the native value or, on a log scale, in [0, 1] units."""
        return self.factor.to_native(scaled) if self.factor.scale == "linear" else scaled

    def _native(self, place: float) -> float:
        """The native value of a place of the slider that can be set."""
        value = place if self.factor.scale == "linear" else self.factor.to_native(place)
        return float(round(value)) if self.factor.kind == "integer" else value

    async def _chosen(self, event: events.ValueChangeEventArguments) -> None:
        if event.value != self._shown:
            await self._set(float(event.value) if self.factor.kind == "binary" else event.value)

    async def _set(self, value: float | str) -> None:
        await self.actions.change(lambda session: session.set(self.factor.name, value))

    def show(
        self, role: Role, target: float, factual: float, note: str = "", doubt: str = ""
    ) -> None:
        """Show the state of the factor, without an image; values are in [0, 1] units.

        ``note`` is a change that is no plain value, ``doubt`` why the data do not determine the
        factor's change; blank for none.
        """
        factor, (icon, action) = self.factor, PINS[role]
        name, hint = factor.name.replace("_", " "), f"{STATE[role]}: {action}"
        self.root.classes(remove="set held moved still", add=role)
        self.root.classes(remove="undetermined", add="undetermined" if doubt else "")
        for label, text in ((self.note, note), (self.doubt, doubt)):
            label.set_text(text)
            label.set_visibility(bool(text))
        self.pin.props(f'icon="{icon}" title="{hint}" aria-label="{name}: {hint}"')
        self.pin.props(f"aria-pressed={str(role == 'set').lower()}").set_enabled(role != "held")
        self.factual.set_text(f"factual {factor.text(factual)}")
        if factor.continuous:
            self.target.set_text(factor.text(target))
            self.tick.style(f"left:{100 * min(max(factual, 0), 1):.2f}%")
            span = self._place(1.0) - self._place(0.0)
            place = self._place(min(max(target, 0.0), 1.0))
            if abs(place - (self.control.value or 0)) > span / SLIDER_STEPS / 100:
                self.control.set_value(place)
        else:
            self._shown = target >= 0.5 if factor.kind == "binary" else factor.text(target)
            self.control.set_value(self._shown)
        said = ", ".join(filter(None, (STATE[role], note, doubt)))
        self._tell({"": said, "factual": factor.text(factual)})

    def show_readings(self, read: float | None, exact: float | None) -> None:
        """Show the values in the images, in [0, 1] units; None for what is not known."""
        for label, title, value in ((self.read, "read back", read), (self.exact, "exact", exact)):
            text = "–" if value is None else self.factor.text(value)
            if label is not None:
                label.set_text(text if self.factor.continuous else f"{title} {text}")
                self._tell({title: "" if value is None else text})

    def _tell(self, values: Mapping[str, str]) -> None:
        """Have the slider say these values, which stand beside it, as well as its own."""
        self._values |= values
        if self.factor.continuous:
            said = (f"{title} {text}".strip() for title, text in self._values.items() if text)
            self.control.props["aria-valuetext"] = ", ".join((self.target.text, *said))
