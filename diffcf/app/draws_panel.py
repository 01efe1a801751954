"""The panel of draws: counterfactuals of what the image leaves open, and how they spread."""

from __future__ import annotations

from collections import Counter
from html import escape

from nicegui import ui
from torch import Tensor

from diffcf import Draws
from diffcf.app.elements import Actions, Heatmap, Picturing, heading, thumbnail
from diffcf.app.link import MOST_DRAWS
from diffcf.causal import CausalGraph, Factor

FIRST = 8
"""Draws that are offered at first."""
SCALE = 0.25
"""Share of a pixel's whole range at the end of the scale of spread."""
LEVEL = 0.9
"""Share of the draws that an interval holds."""


class DrawsPanel:
    """A number of draws, whose field stands in ``bar``, and what they show."""

    def __init__(self, graph: CausalGraph, actions: Actions, bar: ui.element) -> None:
        self.graph, self.actions = graph, actions
        with bar:
            self.count = ui.number("Draws", value=FIRST, min=2, max=MOST_DRAWS, precision=0)
            self.count.props("dense outlined hide-bottom-space").classes("count")
            self.count.on("keydown.enter", self._ask, [])
            ui.button("Draw", color=None, on_click=self._ask).props("flat dense no-caps")
        with ui.element("section").classes("panel draws") as self.root:
            self.root.props('aria-label="Draws"')
            with ui.element("div").classes("heading"):
                heading("Draws of what the image leaves open")
                self.said = ui.label().classes("status").props('role="status"')
            self.strip = ui.element("ul").classes("drawn")
            with ui.element("div").classes("spread") as self.summary:
                self.spread = Heatmap("Standard deviation", "spread", SCALE)
                self.table = ui.html("", sanitize=False)
        self.hide()

    async def _ask(self) -> None:
        await self.actions.draw(self.count.value)

    def hide(self) -> None:
        """Show no draws: they would be of another question."""
        self.root.set_visibility(False)

    def show_error(self, sentence: str | None) -> None:
        """Why there are no draws; None for no reason."""
        self.count.error = sentence

    def start(self, count: int) -> None:
        """Wait for so many draws."""
        self.show_error(None)
        self.count.set_value(count)
        self.strip.clear()
        self.summary.set_visibility(False)
        self.root.set_visibility(True)
        self.said.set_text(f"drawing {count} …")

    def add(self, image: Tensor, number: int, count: int) -> None:
        """One more draw ``[C, S, S]``."""
        with self.strip, ui.element("li"):
            Picturing(f"Draw {number} of {count}").show(thumbnail(image, 96))

    def finish(self, draws: Draws, factual: Tensor) -> None:
        """The spread of the draws of one image, whose factual is ``[C, S, S]``."""
        self.spread.show(draws.spread[0] / 2, factual)  # of a range of 2
        low, high = (end[0].tolist() for end in draws.interval(LEVEL))
        rows = [
            f'<tr><th scope="row">{escape(factor.name.replace("_", " "))}</th>'
            f"<td>{escape(_told(factor, low[k], high[k], draws.targets[:, 0, k]))}</td></tr>"
            for k, factor in enumerate(self.graph.factors)
        ]
        caption = f"<caption>Where {LEVEL:.0%} of the draws lie</caption>"
        self.table.set_content(f"<table>{caption}<tbody>{''.join(rows)}</tbody></table>")
        self.summary.set_visibility(True)
        self.said.set_text(f"{len(draws.images)} draws")


def _told(factor: Factor, low: float, high: float, drawn: Tensor) -> str:
    """Where draws ``[N]`` lie: an interval or, of levels without order, their shares."""
    if factor.continuous:
        ends = factor.text(low), factor.text(high)
        return " … ".join(dict.fromkeys(ends))
    counted = Counter(factor.text(value) for value in drawn.tolist())
    return ", ".join(f"{level} {times / len(drawn):.0%}" for level, times in counted.most_common())
