"""The page: what a visitor sees and does; one :class:`Desk` for every browser tab."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.events import UploadEventArguments

from data_modules.decoding import FORMATS, ImageFormat
from diffcf.api import Model
from diffcf.app import graph_svg
from diffcf.app.controls import FactorRow, columns_head
from diffcf.app.drawer import Drawer, Workshop
from diffcf.app.gallery import MAX_BYTES, Subject, uploaded
from diffcf.app.pictures import png
from diffcf.app.session import Asked, Session
from diffcf.app.shown import CHANGE, ERROR, Difference, Picture, Steps, thumbnails, written
from diffcf.app.worlds import Drawing, Worlds, causal_graph, open_worlds

__all__ = ["Desk", "Explorer"]

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
LEGEND = (("set", "set by you"), ("moved", "moves"), ("cut", "cut edge"))
REFUSED = f"That file was refused: upload a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} of at most "
REFUSED += f"{MAX_BYTES // 10**6} MB."


@dataclass(frozen=True)
class Explorer:
    """What all tabs share.

    Attributes:
        name: of the model, for people.
        model: that answers.
        subjects: images to pick from.
        form: what uploads become.
        workshop: where networks work.
    """

    name: str
    model: Model
    subjects: list[Subject]
    form: ImageFormat
    workshop: Workshop

    @property
    def has_exact(self) -> bool:
        """Whether any image may have exact counterfactuals."""
        return any(subject.has_exact for subject in self.subjects)


class Desk:
    """One tab: builds the page, and carries what is done on it to a session and back."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.graph = explorer, causal_graph(explorer.model)
        self.session: Session | None = None
        self.drawn: Drawing | None = None
        self.told = ""  # of the last drawing
        self.drawer = Drawer(explorer.workshop, self._show, self._fail)
        self.client = ui.context.client
        ui.add_head_html(f"<style>{STYLE}</style>")
        ui.colors(primary="#c8470c")
        self._head()
        with ui.element("div").classes("explorer"):
            with ui.element("section").classes("side") as self.side:
                self._choose_image()
                self._set_factors()
            with ui.element("section").classes("stage") as self.stage:
                self._look()
        if not explorer.subjects:
            self.side.classes("empty")
            self.stage.classes("empty")
        else:
            ui.timer(0, lambda: self.pick(0), once=True)

    # --- building ---

    def _head(self) -> None:
        model = self.explorer.model
        with ui.element("header"):
            ui.html("What if?", tag="h1", sanitize=False)
            method = type(model.module).__name__
            ui.label(f"{self.explorer.name} · {method} · {model.device}").classes("model")
            self.status = ui.label().classes("status").props('role="status" aria-live="polite"')
            dark = ui.button(icon="contrast", color=None).props(
                'flat round dense title="light or dark"'
            )
            dark.props('aria-label="light or dark"')
            dark.on("click", js_handler="() => Quasar.Dark.toggle()")

    def _choose_image(self) -> None:
        with ui.element("div").classes("panel images"):
            with ui.element("div").classes("heading"):
                ui.label("Image").classes("title")
                self.upload = ui.upload(
                    on_upload=self._uploaded,
                    on_rejected=self._refused,
                    max_file_size=MAX_BYTES,
                    auto_upload=True,
                ).classes("uploader")
                self.upload.on("failed", self._refused, [])
                choose = ui.button("Upload", icon="upload", color=None)
                choose.props("flat dense no-caps size=sm")
                choose.on("click", js_handler=f"() => getElement({self.upload.id}).pickFiles()")
            shown = [(subject.title, subject.image) for subject in self.explorer.subjects]
            with ui.element("div").classes("thumbs"):
                self.thumbs = thumbnails(shown, self.pick)
                if not shown:
                    ui.label("The data of these weights is not here.").classes("missing")

    def _set_factors(self) -> None:
        exact = self.explorer.has_exact
        with ui.element("div").classes("panel factors" + (" with-exact" if exact else "")):
            columns_head(exact)
            self.rows = {
                factor.name: FactorRow(factor, exact, self.set, self.toggle)
                for factor in self.graph.factors
            }
        with ui.element("div").classes("actions"):
            self.take_button = _button("Take this step", "redo", self.take, "unelevated")
            self.undo_button = _button("Undo", "undo", self.undo, "flat")
            self.restart_button = _button("Start anew", "restart_alt", self.restart, "flat")

    def _look(self) -> None:
        exact = self.explorer.has_exact
        with ui.element("div").classes("grid" + (" with-exact" if exact else "")):
            self.factual = Picture("Factual", "factual")
            self.counterfactual = Picture("Counterfactual", "counterfactual")
            with self.counterfactual.corner:
                save = ui.button(icon="download", color=None, on_click=self.download)
                save.props('flat round dense size=sm title="download PNG"')
                save.props('aria-label="download the counterfactual as PNG"').mark("download")
            self.exact = Picture("Exact counterfactual", "exact") if exact else None
            with ui.element("figure").classes("graph"):
                with ui.element("figcaption").classes("heading"):
                    ui.label("Causal graph").classes("title")
                self.dag = ui.html("", sanitize=False).classes("dag-box")
                legend = "".join(f'<span><i class="{k}"></i>{said}</span>' for k, said in LEGEND)
                ui.html(legend, sanitize=False).classes("key")
            self.change = Difference("Difference to the factual", "change", CHANGE)
            self.error = Difference("Difference to the exact", "error", ERROR) if exact else None
        with ui.element("div").classes("panel sequence"):
            self.steps = Steps(self.graph)

    # --- what a visitor does ---

    async def pick(self, place: int) -> None:
        """One of the images offered."""
        await self._open(lambda: self.explorer.subjects[place], place)

    async def _uploaded(self, event: UploadEventArguments) -> None:
        self.upload.reset()
        content = await event.file.read()  # its name is the visitor's, and goes nowhere
        await self._open(partial(uploaded, content, self.explorer.form), None)

    def _refused(self) -> None:
        self.upload.reset()
        self._say(REFUSED)

    async def _open(self, subject: Callable[[], Subject], place: int | None) -> None:
        self._busy(True)
        try:
            worlds = await self.explorer.workshop.run(
                lambda: open_worlds(self.explorer.model, subject())
            )
        except Exception as error:  # whatever a visitor sends, the tab must live on
            self._fail(error)
            return
        for button, number in zip(self.thumbs, range(len(self.thumbs)), strict=True):
            button.props(f"aria-pressed={str(number == place).lower()}")
        self._begin(worlds)
        await self._changed()

    def _begin(self, worlds: Worlds) -> None:
        self.session, self.drawn = Session(worlds), None
        self.factual.show(worlds.subject.image, worlds.subject.title)
        known = worlds.true is not None
        self.side.classes(remove="empty")
        self.stage.classes(remove="empty")
        self.stage.classes(add="" if known else "no-exact", remove="no-exact" if known else "")

    async def set(self, name: str, value: float | str) -> None:
        """A slider was moved, or a value chosen."""
        await self._change(lambda session: session.set(name, value))

    async def toggle(self, name: str) -> None:
        """A pin was pressed."""
        await self._change(lambda session: session.toggle(name))

    async def take(self) -> None:
        """Go on from the counterfactual."""
        if self.drawn is not None:
            drawing = self.drawn
            await self._change(lambda session: session.take(drawing))

    async def undo(self) -> None:
        """Back by one change."""
        await self._change(Session.undo)

    async def restart(self) -> None:
        """Back to the image itself."""
        await self._change(Session.restart)

    async def _change(self, change: Callable[[Session], None]) -> None:
        if self.session is None:
            return
        try:
            change(self.session)
        except ValueError as error:
            self._say(str(error))
        await self._changed()

    def download(self) -> None:
        """The counterfactual, pixel by pixel."""
        if self.drawn is not None:
            with self.client:
                ui.download.content(png(self.drawn.image), "counterfactual.png", "image/png")

    # --- what the page shows ---

    async def _changed(self) -> None:
        """What the causal model says at once; then the image, when it is drawn."""
        session = self.session
        assert session is not None
        self._place(session)
        self.steps.show(session.start.subject.image, session.steps, session.pins)
        self.undo_button.set_enabled(session.can_undo)
        self.restart_button.set_enabled(bool(session.steps or session.pins))
        self._busy(True)
        await self.drawer.ask(session.asked())

    def _place(self, session: Session) -> None:
        now, factual = session.factors, session.factual
        roles = {name: session.role(name) for name in self.graph.names}
        values = {}
        for column, (factor, row) in enumerate(
            zip(self.graph.factors, self.rows.values(), strict=True)
        ):
            row.place(roles[factor.name], float(now[column]), float(factual[column]))
            values[factor.name] = factor.text(float(now[column]))
        self.dag.set_content(graph_svg.draw(self.graph, roles, values, session.cut))

    def _show(self, asked: Asked, drawing: Drawing, seconds: float) -> None:
        session = self.session
        if session is None or asked.start is not session.start:
            return
        self.drawn = drawing
        everything = {**session.held, **session.pins}
        set_now = written(everything, self.graph) if everything else "Nothing is set: the factual."
        self.counterfactual.show(drawing.image, set_now)
        self.change.show(session.start.subject.image, drawing.image.cpu())
        exact = None if drawing.exact is None else drawing.exact.factors[0]
        if self.exact is not None and self.error is not None and drawing.exact_image is not None:
            outside = "" if drawing.inside else " It leaves the picture."
            self.exact.show(drawing.exact_image, f"Drawn by the scene's true model.{outside}")
            self.error.show(drawing.exact_image, drawing.image.cpu())
        for column, row in enumerate(self.rows.values()):
            read = None if drawing.read is None else float(drawing.read[column])
            row.tell(read, None if exact is None else float(exact[column]))
        if asked.number == session.number:
            drawn = f"drawn in {seconds:.2f} s" if asked.do is not None else ""
            reader = asked.start.reader
            told = "" if reader is None else f"read back by {reader}"
            self._place(session)
            self.told = " · ".join(part for part in (drawn, told) if part)
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        self.stage.classes(add="busy" if busy else "", remove="" if busy else "busy")
        for row in self.rows.values():
            row.root.classes(add="stale" if busy else "", remove="" if busy else "stale")
        self.status.set_text("drawing …" if busy else self.told)
        can_take = not busy and self.session is not None and bool(self.session.pins)
        self.take_button.set_enabled(can_take)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ValueError):  # nothing that a visitor can mend
            traceback.print_exception(error)
        self._busy(False)
        self._say(str(error).splitlines()[0] if str(error) else type(error).__name__)

    def _say(self, sentence: str) -> None:
        with self.client:
            ui.notify(
                sentence,
                classes="sentence",
                icon="error_outline",
                position="bottom",
                timeout=8000,
                close_button=True,
            )


def _button(text: str, icon: str, on_click: Callable[[], Any], kind: str) -> Any:
    button = ui.button(text, icon=icon, color=None, on_click=on_click)
    button.props(f"{kind} no-caps dense")
    button.set_enabled(False)
    return button.mark(text.lower().replace(" ", "-"))
