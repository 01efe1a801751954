"""The causal graph as SVG, effects below or right of causes, with what is set, cut, moved and left.

Every state shows in form as well as in colour: set factors are filled and bear ``do``, those that
move have a double outline and an arrow, cut edges are dashed and crossed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from statistics import fmean

from diffcf.app.session import Role
from diffcf.graph import CausalGraph

__all__ = ["draw", "layers"]

WIDTH, HEIGHT = 124, 40
"""Of a node, in pixels of the drawing."""
ACROSS, DOWN = 138, 88
"""From one node to the next in its layer, and to the next layer, where causes stand above."""
BELOW, RIGHT = 54, 196
"""Likewise, where causes stand on the left."""
BOX = (267, 213)
"""Room on the page, of which only the shape matters."""
CROSSED = 0.66
"""Where a cut edge is crossed out, from cause to effect: off the middle, where edges meet."""
SAID = {"set": "set", "held": "set earlier", "moved": "moves", "still": "stays"}

Place = tuple[float, ...]


@dataclass(frozen=True)
class _Layout:
    """Centres of the nodes, the drawing's size, and whether causes stand above or on the left."""

    places: Mapping[str, Place]
    size: Place
    down: bool

    def turn(self, place: Place) -> Place:
        """(x, y) to (along its layer, across the layers), or back."""
        return place if self.down else (place[1], place[0])


def draw(
    graph: CausalGraph,
    roles: Mapping[str, Role],
    values: Mapping[str, str],
    cut: frozenset[tuple[str, str]],
) -> str:
    """An ``<svg>``; its colours are the page's.

    Args:
        graph: to draw.
        roles: of every factor.
        values: of every factor, as people write them.
        cut: edges that interventions cut.
    """
    layout = _layout(graph)
    width, height = layout.size
    told = "; ".join(f"{_label(n)} {SAID[roles[n]]} at {values[n]}" for n in graph.names)
    parts = [
        f'<svg class="dag" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'style="max-width:{1.25 * width:g}px" aria-label="Causal graph: {escape(told)}">',
        "<defs>",
        *(_arrowhead(kind) for kind in ("still", "live", "cut")),
        "</defs>",
    ]
    for edge in graph.edges:
        moves = roles[edge[1]] == "moved" and roles[edge[0]] != "still"
        kind = "cut" if edge in cut else "live" if moves else "still"
        parts.append(_edge(edge, layout, kind))
    parts += [_node(name, layout.places[name], roles[name], values[name]) for name in graph.names]
    return "".join([*parts, "</svg>"])


def layers(graph: CausalGraph) -> list[list[str]]:
    """Factors by the length of the longest path that leads to them; near their causes."""
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = max((depth[cause] + 1 for cause in graph.parents(name)), default=0)
    for name in reversed(graph.order):  # causes stand right above their first effect
        if not graph.parents(name) and graph.children(name):
            depth[name] = min(depth[effect] for effect in graph.children(name)) - 1
    rows = [[n for n in graph.names if depth[n] == d] for d in range(max(depth.values()) + 1)]
    for above, row in pairwise(rows):
        at = {name: place / max(len(above) - 1, 1) for place, name in enumerate(above)}
        mean = {n: fmean([at[c] for c in graph.parents(n) if c in at] or [0.5]) for n in row}
        row.sort(key=mean.__getitem__)
    return rows


def _layout(graph: CausalGraph) -> _Layout:
    """Causes above their effects, or left of them where that leaves larger letters."""
    rows = layers(graph)
    widest, deep = max(map(len, rows)), len(rows)
    down = (widest * ACROSS, (deep - 1) * DOWN + HEIGHT + 16)
    right = ((deep - 1) * RIGHT + WIDTH + 16, widest * BELOW + 8)
    if _enlarged(right) <= _enlarged(down):
        return _Layout(_spread(rows, DOWN, HEIGHT / 2 + 8, down[0]), down, True)
    turned = _spread(rows, RIGHT, WIDTH / 2 + 8, right[1] - 8)
    return _Layout({name: (y, x + 4) for name, (x, y) in turned.items()}, right, False)


def _enlarged(size: Place) -> float:
    return min(BOX[0] / size[0], BOX[1] / size[1])


def _spread(rows: list[list[str]], apart: float, first: float, length: float) -> dict[str, Place]:
    """(Along its row, across the rows) of every factor."""
    return {
        name: (length * (column + 0.5) / len(row), line * apart + first)
        for line, row in enumerate(rows)
        for column, name in enumerate(row)
    }


def _edge(edge: tuple[str, str], layout: _Layout, kind: str) -> str:
    # Coordinates along a layer, and across layers: those of the picture, or turned.
    start, end = (layout.turn(layout.places[name]) for name in edge)
    half, layer = (HEIGHT / 2, DOWN) if layout.down else (WIDTH / 2, RIGHT)
    across, end_across = start[1] + half + 2, end[1] - half - 4
    # An edge that passes a layer swings out, or it would run through the factors in between.
    wide = ACROSS if layout.down else BELOW
    swing = 0.0 if end_across - across < layer else 0.75 * wide * (1 if start[0] >= end[0] else -1)
    bend = 0.45 * (end_across - across)
    curve = [
        (start[0], across),
        (start[0] + swing, across + bend),
        (end[0] + swing, end_across - bend),
        (end[0], end_across),
    ]
    first, *rest = (f"{x:.1f},{y:.1f}" for x, y in map(layout.turn, curve))
    drawn = (
        f'<g class="edge {kind}" data-edge="{escape(f"{edge[0]}>{edge[1]}")}">'
        f"<title>{_title(edge, kind)}</title>"
        f'<path d="M{first} C{" ".join(rest)}" marker-end="url(#tip-{kind})"/>'
    )
    if kind == "cut":
        x, y = layout.turn(tuple(_bezier(CROSSED, *line) for line in zip(*curve, strict=True)))
        drawn += (
            f'<g transform="translate({x:.1f},{y:.1f})"><circle r="8"/>'
            '<path class="cross" d="M-4,-4 L4,4 M-4,4 L4,-4"/></g>'
        )
    return drawn + "</g>"


def _bezier(t: float, *points: float) -> float:
    """A coordinate of a cubic curve."""
    a, b, c, d = points
    s = 1 - t
    return s**3 * a + 3 * s * s * t * b + 3 * s * t * t * c + t**3 * d


def _title(edge: tuple[str, str], kind: str) -> str:
    cause, effect = (escape(_label(name)) for name in edge)
    cut = ": cut, since it is set" if kind == "cut" else ""
    return f"{cause} causes {effect}{cut}"


def _node(name: str, place: Place, role: Role, value: str) -> str:
    x, y = place[0] - WIDTH / 2, place[1] - HEIGHT / 2
    box = f'x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="9"'
    inner = ""
    if role == "moved":
        inner = (
            f'<rect class="inner" x="{x + 3:g}" y="{y + 3:g}" width="{WIDTH - 6}" '
            f'height="{HEIGHT - 6}" rx="6.5"/>'
        )
    tag = ""
    if role in ("set", "held"):
        tag = (
            f'<g class="tag" transform="translate({x + WIDTH - 16:g},{y:g})">'
            '<rect x="-13" y="-8" width="26" height="15" rx="7.5"/><text y="3.5">do</text></g>'
        )
    mark = "→ " if role == "moved" else ""
    return (
        f'<g class="node {role}" data-factor="{escape(name)}">'
        f"<title>{escape(_label(name))}: {SAID[role]}</title><rect {box}/>{inner}"
        f'<text class="name" x="{place[0]:g}" y="{place[1] - 3:g}">{escape(_label(name))}</text>'
        f'<text class="value" x="{place[0]:g}" y="{place[1] + 12:g}">{mark}{escape(value)}</text>'
        f"{tag}</g>"
    )


def _arrowhead(kind: str) -> str:
    return (
        f'<marker id="tip-{kind}" class="tip {kind}" viewBox="0 0 8 8" refX="6.5" refY="4" '
        'markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker>'
    )


def _label(name: str) -> str:
    return name.replace("_", " ")
