"""Elements of the page: a row for each factor, images, differences with their scale, the steps."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Protocol

import numpy as np
from nicegui import events, ui
from nicegui.elements.mixins.value_element import ValueElement
from PIL import Image
from torch import Tensor

from diffcf.app.gallery import Subject
from diffcf.app.inference import Step
from diffcf.app.session import Role, Session, do_text
from diffcf.causal import CausalGraph, Factor
from diffcf.io import to_picture

PINS = {
    "set": ("push_pin", "set by you: let it follow its causes again"),
    "held": ("lock", "set in an earlier step"),
    "moved": ("o_push_pin", "follows its causes: set it to this value"),
    "still": ("o_push_pin", "as in the factual: set it to this value"),
}
"""Icon and tooltip of the pin, the button that sets a factor to its value, by the factor's role."""
SLIDER_STEPS = 1000
RAMP = ((255, 255, 255), (250, 204, 140), (226, 92, 66), (128, 24, 84), (38, 10, 60))
"""Colours of a difference, from none to the end of the scale and beyond."""
BACKGROUND = 0.16
"""Opacity of the factual behind a difference, which shows where in the image it is."""


class Actions(Protocol):
    """What a visitor can do; see :class:`diffcf.app.page.Controller`."""

    async def pick(self, place: int) -> None: ...
    async def upload(self, event: events.UploadEventArguments) -> None: ...
    def refuse(self) -> None: ...
    def download(self) -> None: ...
    async def download_whole(self) -> None: ...
    async def take(self) -> None: ...
    async def change(self, change: Callable[[Session], None]) -> None: ...


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
        with ui.element("div").classes("factor").props(f'data-factor="{factor.name}"') as self.root:
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

    def show(self, role: Role, target: float, factual: float) -> None:
        """Show the state of the factor, without an image; values are in [0, 1] units."""
        factor, (icon, hint) = self.factor, PINS[role]
        self.root.classes(remove="set held moved still", add=role)
        self.pin.props(f'icon="{icon}" title="{hint}" aria-label="{factor.name}: {hint}"')
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

    def show_readings(self, read: float | None, exact: float | None) -> None:
        """Show the values in the images, in [0, 1] units; None for what is not known."""
        for label, title, value in ((self.read, "read back", read), (self.exact, "exact", exact)):
            text = "–" if value is None else self.factor.text(value)
            if label is not None:
                label.set_text(text if self.factor.continuous else f"{title} {text}")


class _Image(ui.element):
    def __init__(self, alt: str) -> None:
        super().__init__("img")
        self.classes("pixels").props(f'alt="{alt}"')

    def show(self, picture: Image.Image) -> None:
        self.props["src"] = f"data:image/png;base64,{b64encode(png(picture)).decode()}"
        self.update()


class Picture:
    """An image of the model's size, magnified, under its title; ``mark`` names it in the page."""

    def __init__(self, title: str, mark: str) -> None:
        with ui.element("figure").classes("picture").props(f'data-picture="{mark}"'):
            with ui.element("figcaption").classes("heading"):
                ui.label(title).classes("title")
                self.corner = ui.element("span").classes("corner")
            with ui.element("div").classes("frame"):
                self.image = _Image(title)
            self.caption = ui.label().classes("caption")

    def show(self, image: Tensor, caption: str) -> None:
        """An image ``[C, S, S]`` in [-1, 1]."""
        self.image.show(to_picture(image))
        self.caption.set_text(caption)


def difference(one: Tensor, other: Tensor, scale: float) -> Image.Image:
    """The largest difference of any channel of two images ``[C, S, S]`` in [-1, 1], in colour.

    The first is the faint background.
    """
    scaled = ((one - other).abs().amax(0) / 2 / scale).clamp(0, 1).cpu().numpy()
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(scaled, stops, channel) for channel in np.transpose(RAMP)], -1)
    grey = ((one.mean(0) + 1) / 2).clamp(0, 1).cpu().numpy()[..., None]
    shade = 1 - BACKGROUND * (1 - grey) * (1 - scaled[..., None])
    return Image.fromarray((colour * shade).round().astype(np.uint8))


class Difference:
    """A map of differences with its scale, which ends at the share ``scale`` of a pixel's range."""

    def __init__(self, title: str, mark: str, scale: float) -> None:
        self.scale = scale
        with ui.element("figure").classes("difference").props(f'data-picture="{mark}"'):
            with ui.element("figcaption").classes("heading"):
                ui.label(title).classes("title")
            with ui.element("div").classes("map"):
                self.image = _Image(title)
                with ui.element("div").classes("legend"):
                    ui.label(f"{scale:.0%}").classes("end")
                    colours = ",".join(f"rgb{colour}" for colour in RAMP)
                    ui.element("i").style(f"background:linear-gradient(to top,{colours})")
                    ui.label("0%").classes("end")
                with ui.element("div").classes("sizes"):
                    self.mean, self.most = ui.label(), ui.label()

    def show(self, one: Tensor, other: Tensor) -> None:
        size = (one - other).abs().amax(0) / 2
        self.image.show(difference(one, other, self.scale))
        self.mean.set_text(f"mean {size.mean():.1%}")
        self.most.set_text(f"max {size.max():.0%}")


class StepStrip:
    """The sequence: the factual, the steps that were taken, and the current one."""

    def __init__(self, graph: CausalGraph) -> None:
        self.graph = graph
        self.strip = ui.element("ol").classes("strip")
        self._shown: tuple[Tensor, tuple[Step, ...]] | None = None

    def show(self, factual: Tensor, steps: tuple[Step, ...], do: Mapping[str, float]) -> None:
        """Update the current step's text; images are sent only where they have changed."""
        if self._shown is None or self._shown[0] is not factual or self._shown[1] is not steps:
            self._shown = (factual, steps)
            self.strip.clear()
            with self.strip:
                _strip_item(factual, "Factual", "as it is", "")
                for place, step in enumerate(steps, 1):
                    text = do_text(step.do, self.graph)
                    _strip_item(step.result.image, f"Step {place}", text, "taken")
                self.pending, self.text = _strip_item(None, f"Step {len(steps) + 1}", "", "pending")
        self.pending.set_visibility(bool(do))
        self.text.set_text(do_text(do, self.graph))


def _strip_item(
    image: Tensor | None, title: str, text: str, kind: str
) -> tuple[ui.element, ui.label]:
    with ui.element("li").classes(kind) as item:
        if image is not None:
            _Image(title).show(_thumbnail(image))
        with ui.element("div"):
            ui.label(title).classes("title")
            label = ui.label(text).classes("said")
    return item, label


def thumbnails(subjects: list[Subject], actions: Actions) -> list[ui.element]:
    """A button for each image, which picks it."""
    buttons = []
    for place, subject in enumerate(subjects):
        with ui.element("button").classes("thumb") as button:
            _Image(subject.title).show(_thumbnail(subject.image))
        button.props(f'type="button" title="{subject.title}"')
        buttons.append(button.on("click", partial(actions.pick, place), []))
    return buttons


def png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _thumbnail(image: Tensor, side: int = 64) -> Image.Image:
    picture = to_picture(image)
    picture.thumbnail((side, side))
    return picture
