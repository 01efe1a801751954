"""The causal graph as SVG: causes above effects, with what is set, cut, moved and left.

Every state shows in form as well as in colour: set factors are filled and bear ``do``, those that
move have a double outline and an arrow, cut edges are dashed and crossed out.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from diffcf.app.session import Role
from diffcf.graph import CausalGraph

__all__ = ["draw", "layers"]

WIDTH, HEIGHT, ACROSS, DOWN = 118, 40, 134, 84
"""Of a node, and from one node to the next, in pixels of the drawing."""
SAID = {"set": "set", "held": "set earlier", "moved": "moves", "still": "stays"}

Place = tuple[float, float]


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
    places, (width, height) = _places(graph)
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
        parts.append(_edge(edge, places, kind))
    parts += [_node(name, places[name], roles[name], values[name]) for name in graph.names]
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
    for above, row in zip(rows, rows[1:], strict=False):
        at = {name: place / max(len(above) - 1, 1) for place, name in enumerate(above)}
        row.sort(key=lambda name, at=at: _mean([at[c] for c in graph.parents(name) if c in at]))
    return rows


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.5


def _places(graph: CausalGraph) -> tuple[dict[str, Place], Place]:
    rows = layers(graph)
    widest = max(map(len, rows))
    width, height = widest * ACROSS, (len(rows) - 1) * DOWN + HEIGHT + 16
    places = {}
    for line, row in enumerate(rows):
        for column, name in enumerate(row):
            places[name] = (width * (column + 0.5) / len(row), line * DOWN + HEIGHT / 2 + 8)
    return places, (width, height)


def _edge(edge: tuple[str, str], places: Mapping[str, Place], kind: str) -> str:
    (x, y), (end_x, end_y) = places[edge[0]], places[edge[1]]
    y, end_y = y + HEIGHT / 2 + 2, end_y - HEIGHT / 2 - 4
    # An edge that passes a layer swings out, or it would run through the factors in between.
    swing = 0.0 if end_y - y < DOWN else 0.75 * ACROSS * (1 if x >= end_x else -1)
    bend = 0.45 * (end_y - y)
    curve = f"M{x:g},{y:g} C{x + swing:g},{y + bend:g} {end_x + swing:g},{end_y - bend:g} "
    name = escape(f"{edge[0]}>{edge[1]}")
    drawn = (
        f'<g class="edge {kind}" data-edge="{name}"><title>{_title(edge, kind)}</title>'
        f'<path d="{curve}{end_x:g},{end_y:g}" marker-end="url(#tip-{kind})"/>'
    )
    if kind == "cut":
        middle_x, middle_y = (x + end_x) / 2 + 0.75 * swing, (y + end_y) / 2
        drawn += (
            f'<g transform="translate({middle_x:g},{middle_y:g})"><circle r="8"/>'
            '<path class="cross" d="M-4,-4 L4,4 M-4,4 L4,-4"/></g>'
        )
    return drawn + "</g>"


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
