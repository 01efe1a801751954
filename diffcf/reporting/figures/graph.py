"""The causal graph as a picture: factors in layers, roots on top, and a curve for every edge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from diffcf.causal import CausalGraph, EdgeCurve, Factor
from diffcf.reporting.figures.dag import DagLayout, Point, curve, layered

# All sizes in inches, since text does not shrink with a picture.
_LETTER, _LAYER, _BOX, _MARGIN = 0.078, 1.15, 0.42, 0.25
_PANEL, _ACROSS = (2.3, 1.75), 4
_FILL = {"continuous": "#dbe9f6", "binary": "#fde5cc", "categorical": "#dcf0d9"}
_LINE, _CUT, _SET = "0.25", "0.65", "#b2182b"
_BENT = 0.05  # an effect's ends are this much nearer than its extremes: both are told


def graph_figure(
    graph: CausalGraph, curves: Sequence[EdgeCurve] = (), do: Collection[str] = ()
) -> Figure:
    """The graph and, below it, a panel for every curve.

    Args:
        graph: what is drawn.
        curves: of its edges; their strengths stand beside the edges.
        do: factors that are set: the edges into them are dashed.
    """
    layout = layered(graph.names, graph.edges)
    column = max(len(_caption(f)) for f in graph.factors) * 0.062
    column = max(column, max(map(len, graph.names)) * _LETTER) + 0.5
    size = ((layout.width + 1) * column, layout.height * _LAYER + _BOX + 2 * _MARGIN + 0.25)
    across = min(len(curves), _ACROSS)
    down = -(-len(curves) // across) if curves else 0
    width = max(size[0], across * _PANEL[0], 3.2)
    height = size[1] + down * _PANEL[1]
    figure = Figure(figsize=(width, height), dpi=150)
    axis = figure.add_axes((0, 1 - size[1] / height, 1, size[1] / height))
    axis.set(xlim=(0, width), ylim=(size[1], 0))
    axis.set_axis_off()
    _draw(axis, graph, layout, column, width, curves, do)
    if curves:
        share = 1 - size[1] / height
        for number, edge in enumerate(curves):
            _panel(_place(figure, number, across, down, share), graph, edge)
    return figure


# --- nodes and edges ---


def _draw(
    axis: Any,
    graph: CausalGraph,
    layout: DagLayout,
    column: float,
    width: float,
    curves: Sequence[EdgeCurve],
    do: Collection[str],
) -> None:
    left = (width - layout.width * column) / 2

    def place(point: Point) -> Point:
        return left + point[0] * column, _MARGIN + _BOX / 2 + point[1] * _LAYER

    told = {(edge.cause, edge.effect): edge for edge in curves}
    for edge, path in layout.paths.items():
        _edge(axis, [place(point) for point in path], told.get(edge), edge[1] in do)
    for factor in graph.factors:
        _node(axis, factor, place(layout.nodes[factor.name]), column - 0.22, factor.name in do)
    kinds = [kind for kind in _FILL if any(f.kind == kind for f in graph.factors)]
    if len(kinds) > 1:
        handles = [FancyBboxPatch((0, 0), 1, 1, fc=_FILL[kind], ec=_LINE) for kind in kinds]
        axis.legend(handles, kinds, fontsize=6, ncols=len(kinds), loc="lower left", frameon=False)


def _node(axis: Any, factor: Factor, at: Point, width: float, is_set: bool) -> None:
    x, y = at
    style = "round,pad=0,rounding_size=0.08"
    colour, thick = (_SET, 1.6) if is_set else (_LINE, 0.8)
    corner = (x - width / 2, y - _BOX / 2)
    box = FancyBboxPatch(corner, width, _BOX, style, fc=_FILL[factor.kind], ec=colour, lw=thick)
    axis.add_patch(box)
    box.set_zorder(3)
    name = f"do({factor.name})" if is_set else factor.name
    for text, up, size in ((name, 0.07, 8), (_caption(factor), -0.11, 5.5)):
        axis.text(
            x, y - up, text, ha="center", va="center", fontsize=size, zorder=4, parse_math=False
        )


def _edge(axis: Any, points: list[Point], told: EdgeCurve | None, cut: bool) -> None:
    (x0, y0), (x1, y1) = points[0], points[-1]
    points = [(x0, y0 + _BOX / 2), *points[1:-1], (x1, y1 - _BOX / 2)]
    pieces = curve(points)
    colour, line = (_CUT, (0, (4, 3))) if cut else (_LINE, "-")
    thick = 0.9 if told is None else 0.6 + 1.6 * min(told.greatest, 1.0)
    corners = [points[0], *(point for piece in pieces for point in piece)]
    codes = [Outline.MOVETO, *[Outline.CURVE4] * (len(corners) - 1)]
    path = Outline(corners, codes)
    axis.add_patch(PathPatch(path, fc="none", ec=colour, ls=line, lw=thick, zorder=1))
    head = FancyArrowPatch(
        (x1, points[-1][1] - 0.05), points[-1], arrowstyle="-|>", mutation_scale=8, color=colour,
        shrinkA=0, shrinkB=0, lw=0.5, zorder=2,
    )  # fmt: skip
    axis.add_patch(head)
    if told is not None:
        # Early on its way, where edges into one factor are still apart.
        x, y = _along(points[0], pieces[0], 0.4)
        text = f"{told.strength:.2f}"
        if told.greatest > told.strength + _BENT:
            text += f"\nat most {told.greatest:.2f}"
        text += "" if told.probability is None else f"\np = {told.probability:.2f}"
        box = {"fc": "white", "ec": "none", "pad": 0.6}
        axis.text(
            x, y, text, fontsize=6, ha="center", va="center", bbox=box, zorder=2.5, color=colour
        )


def _along(start: Point, piece: tuple[Point, Point, Point], t: float) -> Point:
    """The point at ``t`` of a cubic Bézier piece."""
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    points = (start, *piece)
    x = sum(w * p[0] for w, p in zip(weights, points, strict=True))
    return x, sum(w * p[1] for w, p in zip(weights, points, strict=True))


def _caption(factor: Factor) -> str:
    if factor.kind == "continuous":
        return f"{factor.low:.3g} … {factor.high:.3g}"
    shown = ", ".join(factor.categories) or "0, 1"
    return shown if len(shown) <= 28 else f"{len(factor.categories)} categories"


# --- curves ---


def _place(figure: Figure, number: int, across: int, down: int, share: float) -> Any:
    """The axes of a panel, below the graph, with room for ticks and labels."""
    line, column = divmod(number, across)
    width, height = 1 / across, share / down
    left, bottom = column * width, share - (line + 1) * height
    return figure.add_axes(
        (left + 0.24 * width, bottom + 0.27 * height, 0.70 * width, 0.55 * height)
    )


def _panel(axis: Any, graph: CausalGraph, edge: EdgeCurve) -> None:
    cause, effect = (graph.factors[graph.column(name)] for name in (edge.cause, edge.effect))
    x = _native(cause, edge.values)
    marker = "" if cause.kind == "continuous" else "o"
    if effect.categories and marker:
        _shares(axis, effect, edge.response)
    elif effect.kind == "continuous":
        low, middle, high = _native(effect, edge.response).unbind(1)
        if marker:
            axis.errorbar(x, middle, (middle - low, high - middle), fmt="o", ms=3, lw=1, capsize=2)
        else:
            axis.fill_between(x, low, high, alpha=0.25, linewidth=0)
            axis.plot(x, middle, linewidth=1.2)
        axis.set_ylim(*_limits(effect, float(low.min()), float(high.max())))
        axis.set_ylabel(effect.name, fontsize=6)
    else:
        _levels(axis, effect, x, edge.response, marker)
    axis.set_xlabel(cause.name, fontsize=6, labelpad=1)
    if cause.categories:
        short = list(map(_short, cause.categories))
        turned = {"rotation": 30, "ha": "right"} if len(short) > 3 else {}
        axis.set_xticks(x, short, fontsize=5, parse_math=False, **turned)
        axis.set_xlim(-0.5, len(short) - 0.5)
    elif cause.kind == "binary":
        axis.set_xticks([0, 1])
        axis.set_xlim(-0.5, 1.5)
    axis.tick_params(labelsize=5, length=2, pad=1.5)
    axis.set_title(f"{cause.name} → {effect.name}", fontsize=7, pad=3)
    if not axis.images:
        axis.grid(color="0.93", linewidth=0.5)
    axis.set_axisbelow(True)


def _shares(axis: Any, effect: Factor, response: Any) -> None:
    """Probability of every category for every level of the cause: white is 0, dark is 1."""
    axis.imshow(response.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    axis.set_yticks(range(effect.width), list(map(_short, effect.categories)), parse_math=False)
    axis.set_ylabel(effect.name, fontsize=6)


def _levels(axis: Any, effect: Factor, x: Any, response: Any, marker: str) -> None:
    """Probability of every category by a continuous cause; of a binary factor that of 1."""
    for level, name in enumerate(effect.categories or ("0", "1")):
        if effect.categories or level == 1:
            axis.plot(x, response[:, level], marker=marker, ms=3, lw=1.2, label=_short(name))
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel(f"P({effect.name})" if effect.categories else f"P({effect.name} = 1)")
    axis.yaxis.label.set_fontsize(6)
    if effect.categories:
        columns = -(-effect.width // 4)
        legend = axis.legend(fontsize=5, handlelength=1, framealpha=0.7, ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _short(name: str) -> str:
    return name if len(name) <= 8 else f"{name[:7]}…"


def _native(factor: Factor, scaled: Any) -> torch.Tensor:
    return factor.low + torch.as_tensor(scaled) * (factor.high - factor.low)


def _limits(factor: Factor, low: float, high: float) -> tuple[float, float]:
    """The factor's range, or more where curves leave it."""
    room = 0.05 * (factor.high - factor.low)
    return min(factor.low, low) - room, max(factor.high, high) + room
