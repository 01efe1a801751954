"""What a visitor asks other than by a factor's row: interventions as text, and the seed."""

from __future__ import annotations

from nicegui import ui

from diffcf.app.asking import LONGEST, setting
from diffcf.app.elements import Actions
from diffcf.causal import CausalGraph

FORMS = "also += -= *= and ~uniform:low:high; each may end in: if name<value"


class AskPanel:
    """What the current step sets, as one line of text to read and to write."""

    def __init__(self, graph: CausalGraph, actions: Actions) -> None:
        self.actions, self._shown = actions, ""
        with ui.element("div").classes("panel ask"):
            example = f"{setting(graph.factors[0], 1.0)}; …"
            self.field = ui.input("Interventions", placeholder=example)
            self.field.props(f'dense outlined hide-bottom-space maxlength={LONGEST} hint="{FORMS}"')
            self.field.props('autocomplete="off" spellcheck="false"').classes("field")
            self.field.on("keydown.enter", self._ask, [])
            with self.field.add_slot("append"):
                button = ui.button(icon="keyboard_return", color=None, on_click=self._ask)
                button.props('flat round dense size=sm aria-label="set what is written"')

    async def _ask(self) -> None:
        await self.actions.ask(self.field.value or "")

    def show(self, text: str) -> None:
        """What the step sets now; where it is as before, what is being written stays."""
        if text != self._shown:
            self._shown = text
            self.field.set_value(text)
            self.field.error = None

    def show_error(self, sentence: str | None) -> None:
        """What is wrong with what is written; None for nothing."""
        self.field.error = sentence


class SeedField:
    """The seed of all noise, and the link to the answer that is shown."""

    def __init__(self, actions: Actions, bar: ui.element) -> None:
        self.actions = actions
        with bar:
            self.seed = ui.number("Seed", precision=0)
            self.seed.props("dense outlined hide-bottom-space").classes("count")
            self.seed.on("keydown.enter", self._reseed, []).on("blur", self._reseed, [])
            self.link = ui.link("Link to this answer", "/").classes("link")
            self.no_link = ui.label("An uploaded or cropped image has no link").classes("link")

    async def _reseed(self) -> None:
        await self.actions.reseed(self.seed.value)

    def show_seed(self, seed: int) -> None:
        self.seed.set_value(seed)

    def show_error(self, sentence: str | None) -> None:
        """Why the seed is none; None for no reason."""
        self.seed.error = sentence

    def show_link(self, address: str | None) -> None:
        """The address of the answer that is shown; None where there can be none."""
        self.link.set_visibility(address is not None)
        self.no_link.set_visibility(address is None)
        self.link.props["href"] = address or "/"
        ui.navigate.history.replace(address or "/")
