"""The causal graph as SVG, effects below or right of causes, with what is set, cut, moved and left.

Every state shows in form as well as in colour: set factors are filled and bear ``do``, those that
move have a double outline and an arrow, cut edges are dashed and crossed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from diffcf.app.session import Role
from diffcf.causal import CausalGraph
from diffcf.reporting import DagLayout, Point, curve, layered

WIDTH, HEIGHT = 124, 40
"""Of a node, in pixels of the drawing."""
LONG = 16
"""Letters that fit into a node; a longer name is set in the room there is."""
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
    """Centres of the nodes, the drawing's size, and whether causes stand above or on the left.

    Paths are (along the layers, across the layers), which is (x, y) where causes stand above.
    """

    places: Mapping[str, Place]
    paths: Mapping[tuple[str, str], Sequence[Point]]
    size: Place
    down: bool

    def text(self, place: Place) -> str:
        """``x,y`` in the picture of a place on a path."""
        x, y = place if self.down else (place[1], place[0])
        return f"{x:.1f},{y:.1f}"


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


def _layout(graph: CausalGraph) -> _Layout:
    """Causes above their effects, or left of them where that leaves larger letters."""
    drawing = layered(graph.names, graph.edges)
    layouts = [_scaled(drawing, down) for down in (True, False)]
    return max(layouts, key=lambda layout: min(BOX[0] / layout.size[0], BOX[1] / layout.size[1]))


def _scaled(drawing: DagLayout, down: bool) -> _Layout:
    """In pixels; paths end at the borders of the boxes, short of the arrowhead."""
    along, across = (ACROSS, DOWN) if down else (BELOW, RIGHT)
    wide, half = (WIDTH, HEIGHT / 2) if down else (HEIGHT, WIDTH / 2)
    margin = (along - wide) / 2 + wide / 2, half + 8

    def place(point: Point) -> Point:
        return point[0] * along + margin[0], point[1] * across + margin[1]

    paths = {}
    for edge, points in drawing.paths.items():
        (x, y), *between, (end_x, end_y) = map(place, points)
        paths[edge] = ((x, y + half + 2), *between, (end_x, end_y - half - 4))
    size = place((drawing.width, drawing.height))
    size = size[0] + margin[0], size[1] + margin[1]
    places = {name: place(point) for name, point in drawing.nodes.items()}
    if not down:
        places, size = {name: (y, x) for name, (x, y) in places.items()}, size[::-1]
    return _Layout(places, paths, size, down)


def _edge(edge: tuple[str, str], layout: _Layout, kind: str) -> str:
    path = layout.paths[edge]
    pieces = curve(path)
    text = " ".join(layout.text(point) for piece in pieces for point in piece)
    drawn = (
        f'<g class="edge {kind}" data-edge="{escape(f"{edge[0]}>{edge[1]}")}">'
        f"<title>{_title(edge, kind)}</title>"
        f'<path d="M{layout.text(path[0])} C{text}" marker-end="url(#tip-{kind})"/>'
    )
    if kind == "cut":
        last = zip(path[-2], *pieces[-1], strict=True)
        at = layout.text(tuple(_bezier(CROSSED, *line) for line in last))
        drawn += (
            f'<g transform="translate({at})"><circle r="8"/>'
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
    fit = f' textLength="{WIDTH - 14}" lengthAdjust="spacingAndGlyphs"' if len(name) > LONG else ""
    return (
        f'<g class="node {role}" data-factor="{escape(name)}">'
        f"<title>{escape(_label(name))}: {SAID[role]}</title><rect {box}/>{inner}"
        f'<text class="name" x="{place[0]:g}" y="{place[1] - 3:g}"{fit}>'
        f"{escape(_label(name))}</text>"
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
