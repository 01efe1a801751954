"""The page: its elements, and how they show a session's state and results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from nicegui import ui
from torch import Tensor

from diffcf.app import graph_svg
from diffcf.app.ask_panel import AskPanel, SeedField
from diffcf.app.asking import do_text, field_text, merged
from diffcf.app.crop_panel import CropPanel
from diffcf.app.draws_panel import DrawsPanel
from diffcf.app.elements import (
    Actions,
    Heatmap,
    Picture,
    StepStrip,
    difference,
    heading,
    thumbnails,
)
from diffcf.app.factor_row import SCRIPT, FactorRow
from diffcf.app.gallery import MAX_BYTES, Subject
from diffcf.app.inference import Result, Worlds
from diffcf.app.link import Link
from diffcf.app.session import Session
from diffcf.app.sheet_panel import SheetPanel
from diffcf.causal import CausalGraph, Factor

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
CHANGE, ERROR = 1.0, 0.2
"""Shares of a pixel's whole range at the end of the scales of the two differences."""
LEGEND = (("set", "set by you"), ("moved", "affected"), ("cut", "cut edge"))


class View:
    """The elements of one tab; ``about`` is the model, in a few words."""

    def __init__(
        self, about: str, graph: CausalGraph, subjects: list[Subject], actions: Actions
    ) -> None:
        self.graph = graph
        self.has_exact = any(subject.exact_world() is not None for subject in subjects)
        self.summary = ""  # of the last result
        self.client = ui.context.client
        ui.add_head_html(f"<style>{STYLE}</style>{SCRIPT}")
        ui.colors(primary="#c8470c")
        self._header(about)
        with ui.element("main").classes("explorer"):
            with ui.element("section").classes("side") as self.side:
                self.side.props('aria-label="Image and factors"')
                self._image_panel(subjects, actions)
                self._factor_panel(actions)
            with ui.element("section").classes("stage") as self.stage:
                self.stage.props('aria-label="Answer"')
                self._result_panels(len(subjects), actions)
        if not subjects:
            self.side.classes("empty")
            self.stage.classes("empty")

    def _header(self, about: str) -> None:
        with ui.element("header"):
            ui.html("What if?", tag="h1", sanitize=False)
            ui.label(about).classes("model")
            self.status = ui.label().classes("status")
            self.said = ui.label().classes("unseen").props('role="status" aria-live="polite"')
            dark = _icon("contrast", "light or dark")
            dark.on("click", js_handler="() => Quasar.Dark.toggle()")

    def _image_panel(self, subjects: list[Subject], actions: Actions) -> None:
        with ui.element("div").classes("panel images"):
            with ui.element("div").classes("heading"):
                heading("Image")
                self.upload = ui.upload(on_upload=actions.upload, on_rejected=actions.refuse)
                self.upload.props(f"max-file-size={MAX_BYTES} auto-upload").classes("uploader")
                self.upload.on("failed", actions.refuse, [])
                choose = ui.button("Upload", icon="upload", color=None)
                choose.props("flat dense no-caps size=sm")
                choose.on("click", js_handler=f"() => getElement({self.upload.id}).pickFiles()")
            with ui.element("div").classes("thumbs"):
                self.thumbs = thumbnails(subjects, actions)
                if not subjects:
                    ui.label("The data of these weights is not here.").classes("missing")
            self.crop = CropPanel(actions)

    def _factor_panel(self, actions: Actions) -> None:
        exact = self.has_exact
        with ui.element("div").classes("panel factors" + (" with-exact" if exact else "")):
            with ui.element("div").classes("factor-line columns-head"):
                ui.element("span")
                ui.label("factor")
                for title in ("target", "read back", *(["exact"] if exact else [])):
                    ui.label(title).classes("number")
            self.rows = {f.name: FactorRow(f, exact, actions) for f in self.graph.factors}
        self.ask = AskPanel(self.graph, actions)
        with ui.element("div").classes("actions"):
            self.take_button = _button("Take this step", "redo", actions.take, "unelevated")
            undo, restart = (partial(actions.change, c) for c in (Session.undo, Session.restart))
            self.undo_button = _button("Undo", "undo", undo, "flat")
            self.restart_button = _button("Start over", "restart_alt", restart, "flat")

    def _result_panels(self, offered: int, actions: Actions) -> None:
        exact = self.has_exact
        with ui.element("div").classes("grid" + (" with-exact" if exact else "")):
            self.factual = Picture("Factual", "factual")
            self.counterfactual = Picture("Counterfactual", "counterfactual")
            with self.counterfactual.corner:
                self.whole = _icon("photo_size_select_large", "download it in its whole picture")
                self.whole.props("size=sm").on_click(actions.download_whole)
                self.whole.set_visibility(False)
                save = _icon("download", "download the counterfactual as PNG")
                save.props("size=sm").on_click(actions.download)
            self.exact = Picture("Exact counterfactual", "exact") if exact else None
            with ui.element("figure").classes("graph"):
                with ui.element("figcaption").classes("heading"):
                    heading("Causal graph")
                self.dag = ui.html("", sanitize=False).classes("dag-box")
                legend = "".join(f'<span><i class="{k}"></i>{text}</span>' for k, text in LEGEND)
                ui.html(legend, sanitize=False).classes("key")
            self.change = Heatmap("Difference to the factual", "change", CHANGE)
            self.error = Heatmap("Difference to the exact", "error", ERROR) if exact else None
        with ui.element("div").classes("panel sequence"):
            self.steps = StepStrip(self.graph)
        bar = ui.element("div").classes("panel more")
        self.draws = DrawsPanel(self.graph, actions, bar)
        self.sheet = SheetPanel(offered, self.graph, actions, bar)
        self.more = SeedField(actions, bar)

    def show_subject(self, worlds: Worlds, place: int | None, room: tuple[int, int]) -> None:
        """Another image; ``place`` where it is one of those to pick from.

        ``room`` is that of its square in its file (:attr:`diffcf.app.gallery.Subject.room`).
        """
        self.crop.show(worlds.subject, room)
        for number, button in enumerate(self.thumbs):
            button.props(f"aria-pressed={str(number == place).lower()}")
        self.factual.show(worlds.subject.image, worlds.subject.title)
        self.whole.set_visibility(worlds.subject.source is not None)
        self.side.classes(remove="empty")
        self.stage.classes(remove="empty no-exact", add="no-exact" if worlds.true is None else "")

    def show_state(self, session: Session) -> None:
        """What is set and what the causal model predicts, without an image."""
        roles, values, notes = session.roles, {}, session.notes
        doubts = session.extrapolated | session.undetermined
        columns = zip(session.factors.tolist(), session.factual.tolist(), strict=True)
        for row, (target, factual) in zip(self.rows.values(), columns, strict=True):
            name = row.factor.name
            row.show(roles[name], target, factual, notes.get(name, ""), doubts.get(name, ""))
            values[name] = row.factor.text(target)
        self.dag.set_content(graph_svg.draw(self.graph, roles, values, doubts))
        self.ask.show(field_text(session.do))
        self.steps.show(session.start.subject.image, session.steps, session.do)
        self.undo_button.set_enabled(session.can_undo)
        self.restart_button.set_enabled(bool(session.steps or session.do))

    def show_result(self, factual: Tensor, result: Result) -> None:
        image, read, exact = result.image.cpu(), result.read, result.exact
        text = "Nothing is set: the factual."
        if result.question:
            text = do_text(merged(result.question), self.graph)
            text += "" if result.is_set else ": not so in this image, nothing is set."
        self.counterfactual.show(image, text)
        self.change.show(difference(image, factual), factual)
        if self.exact is not None and self.error is not None and exact is not None:
            outside = "" if result.in_frame else " Part of it lies outside the frame."
            self.exact.show(exact.image[0], f"Rendered by the scene's true model.{outside}")
            self.error.show(difference(image, exact.image[0]), exact.image[0])
        for column, row in enumerate(self.rows.values()):
            row.show_readings(
                None if read is None else float(read[column]),
                None if exact is None else float(exact.factors[0, column]),
            )

    def say(self, session: Session, result: Result) -> None:
        """Have a reader of the screen say the answer."""
        factors, roles = result.answer.factors[0].tolist(), session.roles
        columns = zip(self.graph.factors, factors, strict=True)
        moved = [f"{_words(f)} {f.text(z)}" for f, z in columns if roles[f.name] != "still"]
        self.said.set_text(f"{self.counterfactual.caption.text} {', '.join(moved)}".strip())

    def show_link(self, link: Link | None) -> None:
        """Where the answer that is shown can be opened again."""
        with self.client:
            self.more.show_link(None if link is None else link.address)

    def show_busy(self, busy: bool, can_take: bool) -> None:
        """Whether a query is running, and whether its result can become a step."""
        self.stage.classes(remove="busy", add="busy" if busy else "")
        self.stage.props["aria-busy"] = str(busy).lower()
        for row in self.rows.values():
            row.root.classes(remove="stale", add="stale" if busy else "")
        self.status.set_text("generating …" if busy else self.summary)
        self.take_button.set_enabled(can_take and not busy)

    def notify(self, sentence: str) -> None:
        """Show a sentence for some seconds."""
        with self.client:
            ui.notify(
                sentence, classes="sentence", icon="error_outline", timeout=8000, close_button=True
            )


def _words(factor: Factor) -> str:
    return factor.name.replace("_", " ")


def _icon(icon: str, title: str) -> ui.button:
    button = ui.button(icon=icon, color=None)
    return button.props(f'flat round dense title="{title}" aria-label="{title}"')


def _button(text: str, icon: str, on_click: Callable[[], object], kind: str) -> ui.button:
    button = ui.button(text, icon=icon, color=None, on_click=on_click)
    button.props(f"{kind} no-caps dense").set_enabled(False)
    return button
