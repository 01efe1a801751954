"""The causal graph as a picture: factors in layers, roots on top, and a curve for every edge."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.axes import Axes
from matplotlib.bezier import BezierSegment
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from torch import Tensor

from diffcf.causal import CausalGraph, EdgeCurve, Factor
from diffcf.reporting.layout import Point, curve, layered

# All sizes in inches, since text does not shrink with a picture.
_LETTER, _SMALL_LETTER, _LAYER, _BOX, _MARGIN = 0.078, 0.062, 1.15, 0.42, 0.25
_PANEL, _ACROSS = (2.3, 1.75), 4
_FILL = {
    "continuous": "#dbe9f6",
    "binary": "#fde5cc",
    "categorical": "#dcf0d9",
    "integer": "#e6e2f3",
}
_LINE, _CUT, _SET = "0.25", "0.65", "#b2182b"
_BENT = 0.05  # a change between an effect's ends this much below its greatest: both are shown


def graph_figure(
    graph: CausalGraph, curves: Sequence[EdgeCurve] = (), do: Collection[str] = ()
) -> Figure:
    """The graph, with the strengths of ``curves`` beside its edges, and below a panel for each.

    Edges into the factors that ``do`` sets are dashed. Of a graph that was learned, edges say how
    probable they are, or that they were known.
    """
    layout = layered(graph.names, graph.edges)
    captions = max(len(_caption(factor)) * _SMALL_LETTER for factor in graph.factors)
    column = 0.5 + max(captions, max(map(len, graph.names)) * _LETTER)
    across = min(len(curves), _ACROSS)
    down = -(-len(curves) // across) if curves else 0
    width = max((layout.width + 1) * column, across * _PANEL[0], 3.2)
    top = layout.height * _LAYER + _BOX + 2 * _MARGIN + 0.25
    height = top + down * _PANEL[1]
    figure = Figure(figsize=(width, height), dpi=150)
    axis = figure.add_axes((0, 1 - top / height, 1, top / height))
    axis.set(xlim=(0, width), ylim=(top, 0))
    axis.set_axis_off()
    left = (width - layout.width * column) / 2

    def place(point: Point) -> Point:
        return left + point[0] * column, _MARGIN + _BOX / 2 + point[1] * _LAYER

    by_edge = {(edge.cause, edge.effect): edge for edge in curves}
    for edge, path in layout.paths.items():
        mechanism, text = by_edge.get(edge), _label(by_edge.get(edge), edge in graph.known)
        _edge(axis, [place(point) for point in path], mechanism, text, edge[1] in do)
    for factor in graph.factors:
        _node(axis, factor, place(layout.nodes[factor.name]), column - 0.22, factor.name in do)
    kinds = [kind for kind in _FILL if any(f.kind == kind for f in graph.factors)]
    if len(kinds) > 1:
        handles = [FancyBboxPatch((0, 0), 1, 1, fc=_FILL[kind], ec=_LINE) for kind in kinds]
        axis.legend(handles, kinds, fontsize=6, ncols=len(kinds), loc="lower left", frameon=False)
    for number, mechanism in enumerate(curves):
        line, place_across = divmod(number, across)
        # With room for ticks and labels.
        x = (place_across + 0.24) / across
        y = (1 - top / height) * (1 - (line + 0.73) / down)
        size = 0.7 / across, (1 - top / height) * 0.55 / down
        _panel(figure.add_axes((x, y, *size)), graph, mechanism)
    return figure


# --- nodes and edges ---


def _node(axis: Axes, factor: Factor, at: Point, width: float, is_set: bool) -> None:
    x, y = at
    style = "round,pad=0,rounding_size=0.08"
    colour, thick = (_SET, 1.6) if is_set else (_LINE, 0.8)
    corner = (x - width / 2, y - _BOX / 2)
    box = FancyBboxPatch(corner, width, _BOX, style, fc=_FILL[factor.kind], ec=colour, lw=thick)
    axis.add_patch(box).set_zorder(3)
    name = f"do({factor.name})" if is_set else factor.name
    for text, up, size in ((name, 0.07, 8), (_caption(factor), -0.11, 5.5)):
        shown = axis.text(x, y - up, text, ha="center", va="center", fontsize=size, zorder=4)
        shown.set_parse_math(False)


def _edge(
    axis: Axes, points: list[Point], mechanism: EdgeCurve | None, text: str, cut: bool
) -> None:
    (x0, y0), *between, (x1, y1) = points
    start, end = (x0, y0 + _BOX / 2), (x1, y1 - _BOX / 2)
    pieces = curve([start, *between, end])
    colour, line = (_CUT, (0, (4, 3))) if cut else (_LINE, "-")
    thick = 0.9 if mechanism is None else 0.6 + 1.6 * min(mechanism.greatest, 1.0)
    corners = [start, *(point for piece in pieces for point in piece)]
    path = Outline(corners, [Outline.MOVETO, *[Outline.CURVE4] * (len(corners) - 1)])
    axis.add_patch(PathPatch(path, fc="none", ec=colour, ls=line, lw=thick, zorder=1))
    head = FancyArrowPatch(
        (x1, end[1] - 0.05), end, arrowstyle="-|>", mutation_scale=8, color=colour,
        shrinkA=0, shrinkB=0, lw=0.5, zorder=2,
    )  # fmt: skip
    axis.add_patch(head)
    if text:
        # Early on its way, where edges into one factor are still apart.
        x, y = BezierSegment([start, *pieces[0]]).point_at_t(0.4)
        box = {"fc": "white", "ec": "none", "pad": 0.6}
        shown = axis.text(x, y, text, fontsize=6, ha="center", va="center", color=colour, bbox=box)
        shown.set_zorder(2.5)


def _label(mechanism: EdgeCurve | None, known: bool) -> str:
    """What stands beside an edge."""
    lines = []
    if mechanism is not None:
        lines.append(f"{mechanism.strength:.2f}")
        if mechanism.greatest > mechanism.strength + _BENT:
            lines.append(f"at most {mechanism.greatest:.2f}")
        if mechanism.probability is not None:
            lines.append(f"p = {mechanism.probability:.2f}")
    return "\n".join([*lines, *(["known"] if known else [])])


def _caption(factor: Factor) -> str:
    if factor.continuous:
        return factor.domain
    short = len(factor.domain) <= 28
    return factor.domain if short else f"{len(factor.categories)} categories"


# --- curves ---


def _panel(axis: Axes, graph: CausalGraph, edge: EdgeCurve) -> None:
    """How the effect follows from the cause, other causes held."""
    cause, effect = (graph.factors[graph.column(name)] for name in (edge.cause, edge.effect))
    x, discrete = cause.to_native(edge.values), not cause.continuous
    axis.set_ylabel(effect.name, fontsize=6)
    if effect.categories and discrete:  # probabilities: white is 0, dark is 1
        axis.imshow(edge.response.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        names = list(map(_short, effect.categories))
        axis.set_yticks(range(effect.width), names, parse_math=False)
    elif effect.continuous:
        low, middle, high = effect.to_native(edge.response).unbind(1)
        if discrete:
            axis.errorbar(x, middle, (middle - low, high - middle), fmt="o", ms=3, lw=1, capsize=2)
        else:
            axis.fill_between(x, low, high, alpha=0.25, linewidth=0)
            axis.plot(x, middle, linewidth=1.2)
        # The factor's range, or more where curves leave it.
        least, most = min(effect.low, float(low.min())), max(effect.high, float(high.max()))
        room = 0.05 * (effect.high - effect.low) if effect.scale == "linear" else 0.0
        axis.set_ylim(least - room, most + room)
        axis.set_yscale(effect.scale)
    else:
        _probabilities(axis, effect, x, edge.response, "o" if discrete else "")
    axis.set_xscale(cause.scale)
    axis.set_xlabel(cause.name, fontsize=6, labelpad=1)
    if cause.categories:
        short = list(map(_short, cause.categories))
        turn, side = (30, "right") if len(short) > 3 else (0, "center")
        axis.set_xticks(x, short, fontsize=5, parse_math=False, rotation=turn, ha=side)
        axis.set_xlim(-0.5, len(short) - 0.5)
    elif cause.kind == "binary":
        axis.set_xticks([0, 1])
        axis.set_xlim(-0.5, 1.5)
    axis.tick_params(labelsize=5, length=2, pad=1.5)
    axis.set_title(f"{cause.name} → {effect.name}", fontsize=7, pad=3)
    if not axis.images:
        axis.grid(color="0.93", linewidth=0.5)
    axis.set_axisbelow(True)


def _probabilities(axis: Axes, effect: Factor, x: Tensor, response: Tensor, marker: str) -> None:
    """Of every category by the cause; of a binary factor that of 1."""
    for level, name in enumerate(effect.categories or ("0", "1")):
        if effect.categories or level == 1:
            axis.plot(x, response[:, level], marker=marker, ms=3, lw=1.2, label=_short(name))
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel(f"P({effect.name})" if effect.categories else f"P({effect.name} = 1)")
    if effect.categories:
        columns = -(-effect.width // 4)
        legend = axis.legend(fontsize=5, handlelength=1, framealpha=0.7, ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _short(name: str) -> str:
    return name if len(name) <= 8 else f"{name[:7]}…"
