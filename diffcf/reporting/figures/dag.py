"""Where the nodes and edges of a causal graph are drawn: layers by depth, roots on top.

A pure function of names and edges, without any drawing: :mod:`diffcf.reporting.figures.graph` draws its
result with matplotlib, and whoever draws SVG takes the same numbers. Every edge runs through the
layers that it passes on a path of its own, so that it crosses no node.

Reference:
    Methods for Visual Understanding of Hierarchical System Structures (Sugiyama et al., 1981),
    https://doi.org/10.1109/TSMC.1981.4308636
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
Edge = tuple[str, str]
Node = tuple[str, ...]
"""``(name,)`` of a factor, or ``(cause, effect, layer)`` of an edge where it passes a layer."""

_SWEEPS = 24
_STEPS = 60
_NARROW = 0.5  # room of an edge that passes a layer, where a node has 1


@dataclass(frozen=True)
class DagLayout:
    """A drawing in units of one: nodes of a layer lie at least 1 apart, layers 1 apart.

    Attributes:
        nodes: ``(x, y)`` of every node, x from 0 rightward, y from 0 (the roots) downward.
        paths: by edge, the points that it passes, from its cause to its effect.
        width: greatest x.
        height: greatest y.
    """

    nodes: Mapping[str, Point]
    paths: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def layered(names: Sequence[str], edges: Iterable[Edge]) -> DagLayout:
    """The drawing of an acyclic graph.

    Args:
        names: of the nodes, each once.
        edges: ``(cause, effect)``, without cycles.

    Raises:
        ValueError: when the edges go in a circle.
    """
    edges = list(edges)
    depth = _depths(names, edges)
    chains = {edge: _chain(edge, depth) for edge in edges}
    layers: list[list[Node]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    joined = {name for edge in edges for name in edge}
    # Nodes without edges go to the side, where they part no others.
    for name in sorted(names, key=lambda name: name not in joined):
        layers[depth[name]].append((name,))
    for (cause, _), chain in chains.items():
        for step, node in enumerate(chain[1:-1], start=1):
            layers[depth[cause] + step].append(node)
    links = [link for chain in chains.values() for link in pairwise(chain)]
    layers = _untangled(layers, links)
    x = _columns(layers, links)
    level = {node: float(k) for k, layer in enumerate(layers) for node in layer}
    paths = {edge: tuple((x[n], level[n]) for n in chain) for edge, chain in chains.items()}
    nodes = {name: (x[(name,)], level[(name,)]) for name in names}
    return DagLayout(nodes, paths, max(x.values(), default=0.0), float(len(layers) - 1))


def curve(points: Sequence[Point]) -> list[tuple[Point, Point, Point]]:
    """Cubic Bézier pieces ``(control, control, end)`` through ``points``, upright at each of them.

    The pieces start at ``points[0]``; SVG's ``C`` and matplotlib's ``CURVE4`` take them as such.
    """
    pieces = []
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        pieces.append(((x0, middle), (x1, middle), (x1, y1)))
    return pieces


def _depths(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Layer of every node: one below its lowest cause."""
    depth = dict.fromkeys(names, 0)
    for _ in range(len(names) + 1):
        lower = [(c, e) for c, e in edges if depth[e] <= depth[c]]
        if not lower:
            return depth
        for cause, effect in lower:
            depth[effect] = depth[cause] + 1
    raise ValueError("The edges go in a circle: a causal graph has none.")


def _chain(edge: Edge, depth: Mapping[str, int]) -> list[Node]:
    """What an edge passes: its cause, a place in every layer between, its effect."""
    cause, effect = edge
    between = range(depth[cause] + 1, depth[effect])
    return [(cause,), *((cause, effect, str(layer)) for layer in between), (effect,)]


# --- the order within layers ---


def _untangled(layers: list[list[Node]], links: Sequence[tuple[Node, Node]]) -> list[list[Node]]:
    """The order with the fewest crossings that sweeps down and up find."""
    best, least = layers, _crossings(layers, links)
    current = [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        order = range(1, len(current)) if down else range(len(current) - 2, -1, -1)
        for k in order:
            fixed = {node: place for place, node in enumerate(current[k - 1 if down else k + 1])}
            pairs = links if down else [(effect, cause) for cause, effect in links]
            current[k] = _by_neighbours(current[k], fixed, pairs)
        count = _crossings(current, links)
        if count < least:
            best, least = [list(layer) for layer in current], count
    return best


def _by_neighbours(
    layer: Sequence[Node], fixed: Mapping[Node, int], pairs: Sequence[tuple[Node, Node]]
) -> list[Node]:
    """The layer by the mean place of each node's neighbours; those without stay where they are."""
    mean = {}
    for place, node in enumerate(layer):
        places = [fixed[other] for other, one in pairs if one == node and other in fixed]
        mean[node] = sum(places) / len(places) if places else float(place)
    return sorted(layer, key=lambda node: mean[node])


def _crossings(layers: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]]) -> int:
    place = {node: k for layer in layers for k, node in enumerate(layer)}
    level = {node: k for k, layer in enumerate(layers) for node in layer}
    spans = [(level[a], place[a], place[b]) for a, b in links]
    return sum(
        one[0] == other[0] and (one[1] - other[1]) * (one[2] - other[2]) < 0
        for k, one in enumerate(spans)
        for other in spans[k + 1 :]
    )


# --- the columns ---


def _columns(
    layers: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]]
) -> dict[Node, float]:
    """x of every node: near its neighbours' mean, apart from those beside it, from 0."""
    x = {node: float(place) for layer in layers for place, node in enumerate(layer)}
    widest = max(map(len, layers))
    for layer in layers:
        for node in layer:
            x[node] += (widest - len(layer)) / 2
    near: dict[Node, list[Node]] = {node: [] for node in x}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    for _ in range(_STEPS):
        for layer in layers:
            wished = [sum(x[n] for n in near[m]) / len(near[m]) if near[m] else x[m] for m in layer]
            x |= dict(zip(layer, _apart(layer, wished), strict=True))
    left = min(x.values())
    return {node: value - left for node, value in x.items()}


def _apart(layer: Sequence[Node], wished: Sequence[float]) -> list[float]:
    """Places in order and far enough apart that differ least, in squares, from those wished.

    Less the room to their left, places need only not fall: a monotone regression, solved by
    merging neighbours that are out of order into blocks at their mean.
    """
    room = [0.0]
    for a, b in pairwise(layer):
        room.append(room[-1] + (_NARROW if len(a) > 1 and len(b) > 1 else 1.0))
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wished, room, strict=True):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, size = blocks.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(flat, room, strict=True)]
