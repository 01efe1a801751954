"""Parts of the page that show: pictures, differences with their scale, the steps so far."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from nicegui import ui
from PIL import Image
from torch import Tensor

from diffcf.app.session import Step
from diffcf.causal import CausalGraph

CHANGE, ERROR = 1.0, 0.2
"""Shares of the whole range of a pixel that differences are coloured over."""


def written(pins: Mapping[str, float], graph: CausalGraph) -> str:
    """``do(light = 1.40)``, of values in [0, 1] units."""
    pairs = (
        f"{name.replace('_', ' ')} = {graph.factors[graph.column(name)].text(value)}"
        for name, value in pins.items()
    )
    return f"do({', '.join(pairs)})"


class _Image:
    """An ``<img>``."""

    def __init__(self, alt: str, classes: str) -> None:
        self.element = ui.element("img").classes(classes).props(f'alt="{alt}"')

    def show(self, content: bytes) -> None:
        """A PNG."""
        self.element.props["src"] = data_url(content)
        self.element.update()


class Picture:
    """An image of the model's size, magnified, under its title.

    Args:
        title: above it.
        mark: by which it is found.
    """

    def __init__(self, title: str, mark: str) -> None:
        with ui.element("figure").classes("picture").props(f'data-picture="{mark}"') as self.root:
            with ui.element("figcaption").classes("heading"):
                ui.label(title).classes("title")
                self.corner = ui.element("span").classes("corner")
            with ui.element("div").classes("frame"):
                self.image = _Image(title, "pixels")
            self.caption = ui.label().classes("caption")

    def show(self, image: Tensor, caption: str) -> None:
        """An image ``[C, S, S]`` in [-1, 1]."""
        self.image.show(png(image))
        self.caption.set_text(caption)


class Difference:
    """A map of differences with its scale.

    Args:
        title: above it.
        mark: by which it is found.
        scale: the share of the whole range that has the last colour.
    """

    def __init__(self, title: str, mark: str, scale: float) -> None:
        self.scale = scale
        with ui.element("figure").classes("difference").props(f'data-picture="{mark}"'):
            with ui.element("figcaption").classes("heading"):
                ui.label(title).classes("title")
            with ui.element("div").classes("map"):
                self.image = _Image(title, "pixels")
                with ui.element("div").classes("legend"):
                    ui.label(f"{scale:.0%}").classes("end")
                    colours = ",".join(f"rgb{colour}" for colour in RAMP)
                    ui.element("i").style(f"background:linear-gradient(to top,{colours})")
                    ui.label("0%").classes("end")
                with ui.element("div").classes("sizes"):
                    self.mean, self.most = ui.label(), ui.label()

    def show(self, one: Tensor, other: Tensor) -> None:
        """How much two images ``[C, S, S]`` in [-1, 1] differ; the first shows through."""
        self.image.show(difference(one, other, self.scale))
        off = (one - other).abs().amax(0) / 2
        self.mean.set_text(f"mean {off.mean():.1%}")
        self.most.set_text(f"most {off.max():.0%}")


class Steps:
    """The sequence so far: the factual, the steps taken, and the one being made."""

    def __init__(self, graph: CausalGraph) -> None:
        self.graph = graph
        self.strip = ui.element("ol").classes("strip")
        self._shown: tuple[Tensor, tuple[Step, ...]] | None = None

    def show(self, factual: Tensor, steps: tuple[Step, ...], pins: Mapping[str, float]) -> None:
        """What a slider moves is said at once; pictures are sent only where they are others."""
        if self._shown is None or self._shown[0] is not factual or self._shown[1] is not steps:
            self._shown = (factual, steps)
            self.strip.clear()
            with self.strip:
                _one(factual, "Factual", "as it is", "")
                for place, step in enumerate(steps, 1):
                    said = written(step.pins, self.graph)
                    _one(step.drawing.image, f"Step {place}", said, "taken")
                self.pending, self.said = _one(None, f"Step {len(steps) + 1}", "", "pending")
        self.pending.set_visibility(bool(pins))
        self.said.set_text(written(pins, self.graph))


def _one(image: Tensor | None, title: str, said: str, kind: str) -> tuple[Any, Any]:
    """The element, and the label of what was done."""
    with ui.element("li").classes(kind) as item:
        if image is not None:
            _Image(title, "pixels").show(thumbnail(image))
        with ui.element("div"):
            ui.label(title).classes("title")
            label = ui.label(said).classes("said")
    return item, label


def thumbnails(images: list[tuple[str, Tensor]], on_pick: Callable[[int], Any]) -> list[Any]:
    """A button for each image; the buttons."""
    buttons = []
    for place, (title, image) in enumerate(images):
        button = ui.element("button").classes("thumb").props(f'type="button" title="{title}"')
        button.on("click", lambda place=place: on_pick(place), [])
        with button:
            _Image(title, "pixels").show(thumbnail(image))
        buttons.append(button)
    return buttons


RAMP = ((255, 255, 255), (250, 204, 140), (226, 92, 66), (128, 24, 84), (38, 10, 60))
"""Colours of a difference, from none to the whole scale and beyond."""
GHOST = 0.16
"""How much of the factual shows through where nothing differs, so that the eye finds its place."""


def png(image: Tensor) -> bytes:
    """An image ``[C, H, W]`` in [-1, 1], grey or colour, pixel by pixel."""
    pixels = ((image.detach() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    array = pixels.permute(1, 2, 0).cpu().numpy()
    return _encoded(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))


def thumbnail(image: Tensor, side: int = 64) -> bytes:
    """As :func:`png`, no larger than ``side``."""
    picture = Image.open(BytesIO(png(image)))
    picture.thumbnail((side, side))
    return _encoded(picture)


def difference(one: Tensor, other: Tensor, scale: float) -> bytes:
    """How much two images ``[C, H, W]`` in [-1, 1] differ, the most of any channel, in colour.

    Args:
        one: which also shows through, faintly.
        other: of the same shape.
        scale: the share of the whole range of a pixel that gets the last colour.
    """
    size = ((one - other).abs().amax(0) / 2 / scale).clamp(0, 1).cpu().numpy()
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(size, stops, channel) for channel in np.transpose(RAMP)], -1)
    grey = ((one.mean(0) + 1) / 2).clamp(0, 1).cpu().numpy()[..., None]
    shade = 1 - GHOST * (1 - grey) * (1 - size[..., None])
    return _encoded(Image.fromarray((colour * shade).round().astype(np.uint8)))


def data_url(content: bytes) -> str:
    """A PNG as the source of an image element."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _encoded(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
