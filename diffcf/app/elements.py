"""Elements of the page: images, maps with their scale, the steps."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Protocol

import numpy as np
from nicegui import events, ui
from PIL import Image
from torch import Tensor

from diffcf.app.asking import Settings, do_text
from diffcf.app.gallery import Subject
from diffcf.app.inference import Step
from diffcf.app.session import Session
from diffcf.causal import CausalGraph
from diffcf.io import to_picture

RAMP = ((255, 255, 255), (250, 204, 140), (226, 92, 66), (128, 24, 84), (38, 10, 60))
"""Colours of a difference, from none to the end of the scale and beyond."""
BACKGROUND = 0.16
"""Opacity of the factual behind a difference, which shows where in the image it is."""


class Actions(Protocol):
    """What a visitor can do; see :class:`diffcf.app.controller.Controller`."""

    async def pick(self, place: int) -> None: ...
    async def carry(self, place: int) -> None: ...
    async def reseed(self, number: float | None) -> None: ...
    async def draw(self, number: float | None) -> None: ...
    async def ask_several(self, number: float | None) -> None: ...
    async def upload(self, event: events.UploadEventArguments) -> None: ...
    async def crop(self, across: float, down: float) -> None: ...
    def refuse(self) -> None: ...
    def download(self) -> None: ...
    async def download_whole(self) -> None: ...
    async def ask(self, text: str) -> None: ...
    async def take(self) -> None: ...
    async def change(self, change: Callable[[Session], None]) -> None: ...


class Picturing(ui.element):
    """An ``<img>``; ``alt`` is what it says to those who do not see it."""

    def __init__(self, alt: str) -> None:
        super().__init__("img")
        self.classes("pixels").props["alt"] = alt  # which may hold any letter, quotes included

    def show(self, picture: Image.Image, alt: str | None = None) -> None:
        """Another picture and, unless it stays as it is, what to say instead of it."""
        self.props["alt"] = self.props["alt"] if alt is None else alt
        self.props["src"] = source(picture)
        self.update()


class Picture:
    """An image of the model's size, magnified, under its title; ``mark`` names it in the page."""

    def __init__(self, title: str, mark: str) -> None:
        self.title = title
        with ui.element("figure").classes("picture").props(f'data-picture="{mark}"'):
            with ui.element("figcaption").classes("heading"):
                heading(title)
                self.corner = ui.element("span").classes("corner")
            with ui.element("div").classes("frame"):
                self.image = Picturing(title)
            self.caption = ui.label().classes("caption")

    def show(self, image: Tensor, caption: str) -> None:
        """An image ``[C, S, S]`` in [-1, 1]."""
        self.image.show(to_picture(image), f"{self.title}: {caption}")
        self.caption.set_text(caption)


def difference(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of any channel of two images ``[C, S, S]`` in [-1, 1], ``[S, S]``.

    As a share of a pixel's whole range.
    """
    return (one - other).abs().amax(0) / 2


def coloured(size: Tensor, behind: Tensor, scale: float) -> Image.Image:
    """A map ``[S, S]`` of what is not negative, in colours that end at ``scale``.

    The image ``behind`` it, ``[C, S, S]`` in [-1, 1], is its faint background.
    """
    scaled = (size / scale).clamp(0, 1).cpu().numpy()
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(scaled, stops, channel) for channel in np.transpose(RAMP)], -1)
    grey = ((behind.mean(0) + 1) / 2).clamp(0, 1).cpu().numpy()[..., None]
    shade = 1 - BACKGROUND * (1 - grey) * (1 - scaled[..., None])
    return Image.fromarray((colour * shade).round().astype(np.uint8))


class Heatmap:
    """A map with its scale, which ends at the share ``scale`` of a pixel's whole range."""

    def __init__(self, title: str, mark: str, scale: float) -> None:
        self.title, self.scale = title, scale
        with ui.element("figure").classes("difference").props(f'data-picture="{mark}"'):
            with ui.element("figcaption").classes("heading"):
                heading(title)
            with ui.element("div").classes("map"):
                self.image = Picturing(title)
                with ui.element("div").classes("legend"):
                    ui.label(f"{scale:.0%}").classes("end")
                    colours = ",".join(f"rgb{colour}" for colour in RAMP)
                    ui.element("i").style(f"background:linear-gradient(to top,{colours})")
                    ui.label("0%").classes("end")
                with ui.element("div").classes("sizes"):
                    self.mean, self.most = ui.label(), ui.label()

    def show(self, size: Tensor, behind: Tensor) -> None:
        """Shares ``[S, S]`` of a pixel's range, over an image ``[C, S, S]`` in [-1, 1]."""
        mean, most = f"mean {size.mean():.1%}", f"max {size.max():.0%}"
        self.image.show(coloured(size, behind, self.scale), f"{self.title}: {mean}, {most}")
        self.mean.set_text(mean)
        self.most.set_text(most)


class StepStrip:
    """The sequence: the factual, the steps that were taken, and the current one."""

    def __init__(self, graph: CausalGraph) -> None:
        self.graph = graph
        self.strip = ui.element("ol").classes("strip")
        self._shown: tuple[Tensor, tuple[Step, ...]] | None = None

    def show(self, factual: Tensor, steps: tuple[Step, ...], do: Settings) -> None:
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
            Picturing(title).show(thumbnail(image))
        with ui.element("div"):
            ui.label(title).classes("title")
            label = ui.label(text).classes("said")
    return item, label


def thumbnails(subjects: list[Subject], actions: Actions) -> list[ui.element]:
    """A button for each image, which picks it."""
    buttons = []
    for place, subject in enumerate(subjects):
        with ui.element("button").classes("thumb") as button:
            Picturing(subject.title).show(thumbnail(subject.image))
        button.props["type"], button.props["title"] = "button", subject.title
        buttons.append(button.on("click", partial(actions.pick, place), []))
    return buttons


def heading(text: str) -> ui.label:
    """A title of a part of the page."""
    return ui.label(text).classes("title").props('role="heading" aria-level="2"')


def source(picture: Image.Image) -> str:
    """A picture as the address of itself."""
    return f"data:image/png;base64,{b64encode(png(picture)).decode()}"


def png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def thumbnail(image: Tensor, side: int = 64) -> Image.Image:
    """An image ``[C, S, S]`` in [-1, 1], no larger than ``side``."""
    picture = to_picture(image)
    picture.thumbnail((side, side))
    return picture
