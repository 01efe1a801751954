"""The causal graph as SVG, with the state of every factor and edge.

States differ in shape as well as in colour: set factors are filled and tagged ``do``, their effects
have a double outline and an arrow, and cut edges are dashed and crossed out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from operator import mul

from diffcf.app.session import Role
from diffcf.causal import CausalGraph
from diffcf.reporting import DagLayout, Point, curve, layered

WIDTH, HEIGHT = 124, 40
"""Of a node, in pixels of the drawing."""
LONG = 16
"""Letters that fit into a node; longer names are condensed."""
SPACING_DOWN = (138, 88)
"""Pixels between nodes of a layer, and between layers, where causes stand above their effects."""
SPACING_RIGHT = (54, 196)
"""Likewise, where causes stand left of their effects."""
BOX = (267, 213)
"""Room on the page, of which only the shape matters."""
CROSSED = 0.66
"""Where a cut edge is crossed out, from cause to effect: not in the middle, where edges meet."""
STATE = {"set": "set", "held": "set earlier", "moved": "affected", "still": "unchanged"}
ARROWHEAD = (
    '<marker id="tip-{kind}" class="tip {kind}" viewBox="0 0 8 8" refX="6.5" refY="4" '
    'markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z"/></marker>'
)


def draw(
    graph: CausalGraph,
    roles: Mapping[str, Role],
    values: Mapping[str, str],
    doubts: Collection[str] = (),
) -> str:
    """An ``<svg>``; its colours come from the page's style sheet.

    Args:
        graph: to draw.
        roles: of every factor; edges into a factor that is set are cut.
        values: of every factor, as text.
        doubts: the factors whose change the training data do not determine.
    """
    # Causes above their effects, or left of them where that leaves larger letters.
    drawing = layered(graph.names, graph.edges)
    layouts = [_in_pixels(drawing, down) for down in (True, False)]
    layout = max(layouts, key=lambda layout: min(BOX[0] / layout.width, BOX[1] / layout.height))
    states = {name: STATE[role] for name, role in roles.items()}
    states |= {name: f"{states[name]}, not determined by the training data," for name in doubts}
    text = "; ".join(f"{_label(n)} {states[n]} at {escape(values[n])}" for n in graph.names)
    parts = [
        f'<svg class="dag" viewBox="0 0 {layout.width:g} {layout.height:g}" role="img" '
        f'style="max-width:{1.25 * layout.width:g}px" aria-label="Causal graph: {text}">',
        f"<defs>{''.join(ARROWHEAD.format(kind=kind) for kind in ('still', 'live', 'cut'))}</defs>",
    ]
    for cause, effect in graph.edges:
        live = roles[effect] == "moved" and roles[cause] != "still"
        kind = "cut" if roles[effect] in ("set", "held") else "live" if live else "still"
        parts.append(_edge(cause, effect, layout.paths[cause, effect], kind))
    for name in graph.names:
        value = f"{values[name]} ?" if name in doubts else values[name]
        parts.append(_node(name, layout.nodes[name], roles[name], value, states[name]))
    return "".join([*parts, "</svg>"])


def _in_pixels(drawing: DagLayout, down: bool) -> DagLayout:
    """As on the page: a path is its start, then two Bézier controls and an end for each piece.

    It ends at the border of the node, short of the arrowhead.
    """
    along, across = SPACING_DOWN if down else SPACING_RIGHT
    half = (HEIGHT if down else WIDTH) / 2
    margin = along / 2, half + 8

    def scaled(point: Point) -> Point:
        return point[0] * along + margin[0], point[1] * across + margin[1]

    def turned(point: Point) -> Point:
        return point if down else point[::-1]

    paths = {}
    for edge, points in drawing.paths.items():
        (x, y), *between, (end_x, end_y) = map(scaled, points)
        path = [(x, y + half + 2), *between, (end_x, end_y - half - 4)]
        pieces = [point for piece in curve(path) for point in piece]
        paths[edge] = tuple(turned(point) for point in (path[0], *pieces))
    width, height = scaled((drawing.width, drawing.height))
    centres = {name: turned(scaled(point)) for name, point in drawing.nodes.items()}
    return DagLayout(centres, paths, *turned((width + margin[0], height + margin[1])))


def _edge(cause: str, effect: str, path: Sequence[Point], kind: str) -> str:
    start, *rest = (f"{x:.1f},{y:.1f}" for x, y in path)
    cut = ": cut, since it is set" if kind == "cut" else ""
    drawn = (
        f'<g class="edge {kind}" data-edge="{escape(f"{cause}>{effect}")}">'
        f"<title>{_label(cause)} causes {_label(effect)}{cut}</title>"
        f'<path d="M{start} C{" ".join(rest)}" marker-end="url(#tip-{kind})"/>'
    )
    if kind == "cut":
        s, t = 1 - CROSSED, CROSSED
        bezier = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
        x, y = (sum(map(mul, bezier, line)) for line in zip(*path[-4:], strict=True))
        drawn += (
            f'<g transform="translate({x:.1f},{y:.1f})"><circle r="8"/>'
            '<path class="cross" d="M-4,-4 L4,4 M-4,4 L4,-4"/></g>'
        )
    return drawn + "</g>"


def _node(name: str, centre: Point, role: Role, value: str, state: str) -> str:
    (x, y), (left, top) = centre, (centre[0] - WIDTH / 2, centre[1] - HEIGHT / 2)
    label, inner, tag, mark = _label(name), "", "", ""
    if role == "moved":
        mark = "→ "
        inner = (
            f'<rect class="inner" x="{left + 3:g}" y="{top + 3:g}" width="{WIDTH - 6}" '
            f'height="{HEIGHT - 6}" rx="6.5"/>'
        )
    elif role != "still":
        tag = (
            f'<g class="tag" transform="translate({left + WIDTH - 16:g},{top:g})">'
            '<rect x="-13" y="-8" width="26" height="15" rx="7.5"/><text y="3.5">do</text></g>'
        )
    fit = f' textLength="{WIDTH - 14}" lengthAdjust="spacingAndGlyphs"' if len(name) > LONG else ""
    return (
        f'<g class="node {role}" data-factor="{escape(name)}"><title>{label}: {state}</title>'
        f'<rect x="{left:g}" y="{top:g}" width="{WIDTH}" height="{HEIGHT}" rx="9"/>{inner}'
        f'<text class="name" x="{x:g}" y="{y - 3:g}"{fit}>{label}</text>'
        f'<text class="value" x="{x:g}" y="{y + 12:g}">{mark}{escape(value)}</text>{tag}</g>'
    )


def _label(name: str) -> str:
    return escape(name.replace("_", " "))
