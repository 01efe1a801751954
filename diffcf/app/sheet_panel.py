"""The panel of several images, answered by the same interventions: a small sheet."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from diffcf.app.asking import do_text, merged, whole_number
from diffcf.app.elements import Actions, Picturing, heading, thumbnail
from diffcf.app.gallery import Subject
from diffcf.app.inference import Question, Result
from diffcf.causal import CausalGraph
from diffcf.io import to_picture

FIRST = 6
"""Images that are offered at first."""


class SheetPanel:
    """A number of images, whose field stands in ``bar``, and the answer about each."""

    def __init__(self, offered: int, graph: CausalGraph, actions: Actions, bar: ui.element) -> None:
        self.offered, self.graph, self.actions = offered, graph, actions
        with bar:
            self.count = ui.number("Images", value=min(FIRST, offered), min=1, max=offered)
            self.count.props("dense outlined hide-bottom-space").classes("count")
            self.count.on("keydown.enter", self._ask, [])
            ui.button("Ask of several", color=None, on_click=self._ask).props("flat dense no-caps")
        with ui.element("section").classes("panel sheet") as self.root:
            self.root.props('aria-label="Several images"')
            with ui.element("div").classes("heading"):
                heading("The same of several images")
                self.said = ui.label().classes("status").props('role="status"')
            self.tiles = ui.element("ul").classes("tiles")
        self.hide()

    async def _ask(self) -> None:
        await self.actions.ask_several(self.count.value)

    def checked(self, count: float | None) -> int:
        """A number of images; SettingsError for one that is not offered."""
        return whole_number("number of images", count, 1, self.offered)

    def hide(self) -> None:
        """Show no answers."""
        self.about: tuple[Question, int] | None = None  # the question and the seed
        self.root.set_visibility(False)

    def keep(self, about: tuple[Question, int]) -> None:
        """Show answers only where they are to this question, with this seed."""
        if about != self.about:
            self.hide()

    def show_error(self, sentence: str | None) -> None:
        """Why there are no answers; None for no reason."""
        self.count.error = sentence

    def start(self, about: tuple[Question, int]) -> None:
        """Wait for answers to a question, with a seed."""
        self.about = about
        self.show_error(None)
        self.tiles.clear()
        self.root.set_visibility(True)
        self._title = do_text(merged(about[0]), self.graph)
        self.said.set_text(f"{self._title} …")

    def add(self, place: int, subject: Subject, result: Result) -> None:
        """The answer about one of the images offered; pressing it opens that image."""
        said = self._said(result)
        with self.tiles, ui.element("li"):
            tile = ui.element("button").classes("tile")
            tile.props["type"], tile.props["title"] = "button", f"open {subject.title}"
            tile.on("click", partial(self.actions.carry, place), [])
            with tile:
                Picturing("").show(thumbnail(subject.image, 96), f"{subject.title}, factual")
                answer = to_picture(result.image)
                Picturing("").show(answer, f"{subject.title} under {self._title}")
                ui.label(said).classes("said")

    def finish(self, count: int) -> None:
        """All are answered."""
        self.said.set_text(f"{self._title}: {count} images")

    def _said(self, result: Result) -> str:
        """What was set in the image, which may differ from that of others."""
        mask, target = result.answer.intervention.mask[0].tolist(), result.answer.factors[0].cpu()
        columns = zip(self.graph.factors, mask, target.tolist(), strict=True)
        told = (f"{f.name.replace('_', ' ')} {f.text(z)}" for f, is_set, z in columns if is_set)
        return ", ".join(told) or "nothing is set in this image"
