"""What the page is made of, and how it shows what is asked and answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from nicegui import ui
from nicegui.events import UploadEventArguments
from torch import Tensor

from diffcf.app import graph_svg
from diffcf.app.controls import FactorRow, columns_head
from diffcf.app.gallery import MAX_BYTES
from diffcf.app.session import Session
from diffcf.app.shown import CHANGE, ERROR, Difference, Picture, Steps, thumbnails, written
from diffcf.app.worlds import Result, Worlds
from diffcf.causal import CausalGraph

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
LEGEND = (("set", "set by you"), ("moved", "moves"), ("cut", "cut edge"))


class Actions(Protocol):
    """What a visitor can do; see :class:`diffcf.app.page.Controller`."""

    async def pick(self, place: int) -> None: ...
    async def uploaded(self, event: UploadEventArguments) -> None: ...
    def refused(self) -> None: ...
    async def set(self, name: str, value: float | str) -> None: ...
    async def toggle(self, name: str) -> None: ...
    async def take(self) -> None: ...
    async def undo(self) -> None: ...
    async def restart(self) -> None: ...
    def download(self) -> None: ...


class View:
    """The elements of one tab.

    Args:
        about: the model, in a few words.
        graph: its causal graph.
        images: (title, ``[C, S, S]`` in [-1, 1]) of those to pick from.
        has_exact: whether there is room for exact counterfactuals.
        actions: called for what a visitor does.
    """

    def __init__(
        self,
        about: str,
        graph: CausalGraph,
        images: list[tuple[str, Tensor]],
        has_exact: bool,
        actions: Actions,
    ) -> None:
        self.graph, self.has_exact = graph, has_exact
        self.told = ""  # of the last drawing
        self.client = ui.context.client
        ui.add_head_html(f"<style>{STYLE}</style>")
        ui.colors(primary="#c8470c")
        self._head(about)
        with ui.element("div").classes("explorer"):
            with ui.element("section").classes("side") as self.side:
                self._choose_image(images, actions)
                self._set_factors(actions)
            with ui.element("section").classes("stage") as self.stage:
                self._look(actions)
        if not images:
            self.side.classes("empty")
            self.stage.classes("empty")

    # --- building ---

    def _head(self, about: str) -> None:
        with ui.element("header"):
            ui.html("What if?", tag="h1", sanitize=False)
            ui.label(about).classes("model")
            self.status = ui.label().classes("status").props('role="status" aria-live="polite"')
            dark = ui.button(icon="contrast", color=None).props(
                'flat round dense title="light or dark"'
            )
            dark.props('aria-label="light or dark"')
            dark.on("click", js_handler="() => Quasar.Dark.toggle()")

    def _choose_image(self, images: list[tuple[str, Tensor]], actions: Actions) -> None:
        with ui.element("div").classes("panel images"):
            with ui.element("div").classes("heading"):
                ui.label("Image").classes("title")
                self.upload = ui.upload(
                    on_upload=actions.uploaded,
                    on_rejected=actions.refused,
                    max_file_size=MAX_BYTES,
                    auto_upload=True,
                ).classes("uploader")
                self.upload.on("failed", actions.refused, [])
                choose = ui.button("Upload", icon="upload", color=None)
                choose.props("flat dense no-caps size=sm")
                choose.on("click", js_handler=f"() => getElement({self.upload.id}).pickFiles()")
            with ui.element("div").classes("thumbs"):
                self.thumbs = thumbnails(images, actions.pick)
                if not images:
                    ui.label("The data of these weights is not here.").classes("missing")

    def _set_factors(self, actions: Actions) -> None:
        exact = self.has_exact
        with ui.element("div").classes("panel factors" + (" with-exact" if exact else "")):
            columns_head(exact)
            self.rows = {
                factor.name: FactorRow(factor, exact, actions.set, actions.toggle)
                for factor in self.graph.factors
            }
        with ui.element("div").classes("actions"):
            self.take_button = _button("Take this step", "redo", actions.take, "unelevated")
            self.undo_button = _button("Undo", "undo", actions.undo, "flat")
            self.restart_button = _button("Start anew", "restart_alt", actions.restart, "flat")

    def _look(self, actions: Actions) -> None:
        exact = self.has_exact
        with ui.element("div").classes("grid" + (" with-exact" if exact else "")):
            self.factual = Picture("Factual", "factual")
            self.counterfactual = Picture("Counterfactual", "counterfactual")
            with self.counterfactual.corner:
                save = ui.button(icon="download", color=None, on_click=actions.download)
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

    # --- showing ---

    def begin(self, worlds: Worlds, place: int | None) -> None:
        """Another image, which may be one of those to pick from."""
        for number, button in enumerate(self.thumbs):
            button.props(f"aria-pressed={str(number == place).lower()}")
        self.factual.show(worlds.subject.image, worlds.subject.title)
        for part in (self.side, self.stage):
            part.classes(remove="empty")
        self.stage.classes(remove="no-exact", add="no-exact" if worlds.true is None else "")

    def place(self, session: Session) -> None:
        """What is set and what the causal model says of it, at once."""
        now, factual = session.factors, session.factual
        roles = {name: session.role(name) for name in self.graph.names}
        values = {}
        for column, factor in enumerate(self.graph.factors):
            here = float(now[column])
            self.rows[factor.name].place(roles[factor.name], here, float(factual[column]))
            values[factor.name] = factor.text(here)
        self.dag.set_content(graph_svg.draw(self.graph, roles, values, session.cut))
        self.steps.show(session.start.subject.image, session.steps, session.pins)
        self.undo_button.set_enabled(session.can_undo)
        self.restart_button.set_enabled(bool(session.steps or session.pins))

    def show(self, factual: Tensor, drawing: Result) -> None:
        """The pictures of an answer, and what is read back from them."""
        do, image = drawing.answer.intervention, drawing.image.cpu()
        columns = zip(self.graph.names, do.values[0].tolist(), do.mask[0].tolist(), strict=True)
        set_now = {name: value for name, value, is_set in columns if is_set}
        said = written(set_now, self.graph) if set_now else "Nothing is set: the factual."
        self.counterfactual.show(image, said)
        self.change.show(factual, image)
        exact = None if drawing.exact is None else drawing.exact.factors[0]
        if self.exact is not None and self.error is not None and drawing.exact_image is not None:
            outside = "" if drawing.inside else " It leaves the picture."
            self.exact.show(drawing.exact_image, f"Drawn by the scene's true model.{outside}")
            self.error.show(drawing.exact_image, image)
        for column, row in enumerate(self.rows.values()):
            read = None if drawing.read is None else float(drawing.read[column])
            row.tell(read, None if exact is None else float(exact[column]))

    def busy(self, busy: bool, can_take: bool) -> None:
        """Whether an answer is under way, and whether the one shown can become a step."""
        self.stage.classes(remove="busy", add="busy" if busy else "")
        for row in self.rows.values():
            row.root.classes(remove="stale", add="stale" if busy else "")
        self.status.set_text("drawing …" if busy else self.told)
        self.take_button.set_enabled(can_take and not busy)

    def say(self, sentence: str) -> None:
        """A sentence that goes away again."""
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
