"""Where the nodes and edges of a causal graph are drawn: layers by depth, roots on top.

:mod:`diffcf.reporting.graph` draws the result with matplotlib, :mod:`diffcf.app.graph_svg` as SVG.
Every edge has a place of its own in the layers that it passes, so that it crosses no node.

Reference:
    Methods for Visual Understanding of Hierarchical System Structures (Sugiyama et al., 1981),
    https://doi.org/10.1109/TSMC.1981.4308636
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from statistics import fmean

import networkx as nx

Point = tuple[float, float]
Edge = tuple[str, str]
Node = str | tuple[str, str, int]
"""A factor, or ``(cause, effect, layer)`` of an edge where it passes a layer."""

_SWEEPS = 24
_STEPS = 60
_NARROW = 0.5  # room between edges that pass a layer, where nodes have 1


@dataclass(frozen=True)
class DagLayout:
    """Points ``(x, y)`` of nodes, those that edges pass from cause to effect, and greatest x, y.

    x runs from 0 rightward, y from 0 (the roots) downward. Layers lie 1 apart, and the nodes of a
    layer at least 1.
    """

    nodes: Mapping[str, Point]
    paths: Mapping[Edge, tuple[Point, ...]]
    width: float
    height: float


def layered(names: Sequence[str], edges: Iterable[Edge]) -> DagLayout:
    """The drawing of a graph; ValueError when its edges, ``(cause, effect)``, form a cycle."""
    graph = nx.DiGraph(list(edges))
    # Nodes without edges go to the side, where they part no others.
    ordered = sorted(names, key=lambda name: name not in graph)
    graph.add_nodes_from(names)
    try:
        generations = list(nx.topological_generations(graph))
    except nx.NetworkXUnfeasible:
        raise ValueError("The edges form a cycle: a causal graph has none.") from None
    layers: list[list[Node]] = [[n for n in ordered if n in layer] for layer in generations]
    level = {node: depth for depth, layer in enumerate(layers) for node in layer}
    paths: dict[Edge, list[Node]] = {}
    links = nx.DiGraph()  # from each layer to the next
    links.add_nodes_from(names)
    for cause, effect in graph.edges:
        passed = [(cause, effect, depth) for depth in range(level[cause] + 1, level[effect])]
        for place in passed:
            layers[place[2]].append(place)
        paths[cause, effect] = [cause, *passed, effect]
        nx.add_path(links, paths[cause, effect])
    layers = _untangled(layers, links)
    x = _columns(layers, links)
    at = {node: (x[node], float(depth)) for depth, layer in enumerate(layers) for node in layer}
    return DagLayout(
        {name: at[name] for name in names},
        {edge: tuple(at[node] for node in path) for edge, path in paths.items()},
        max(x.values(), default=0.0),
        len(layers) - 1.0,
    )


def curve(points: Sequence[Point]) -> list[tuple[Point, Point, Point]]:
    """Cubic Bézier pieces ``(control, control, end)`` through ``points``, upright at each of them.

    The pieces start at ``points[0]``; SVG's ``C`` and matplotlib's ``CURVE4`` take them as such.
    """
    return [
        ((x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1))
        for (x0, y0), (x1, y1) in pairwise(points)
    ]


def _untangled(layers: list[list[Node]], links: nx.DiGraph) -> list[list[Node]]:
    """The order within layers with the fewest crossings that sweeps down and up find.

    A sweep sorts each layer by the mean place of its nodes' neighbours in the layer before.
    """
    best, current = layers, [list(layer) for layer in layers]
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        near = links.pred if down else links.succ
        for layer in current[1:] if down else current[-2::-1]:
            place = _places(current)
            mean = {n: fmean([place[m] for m in near[n]] or [place[n]]) for n in layer}
            layer.sort(key=mean.__getitem__)
        if _crossings(current, links) < _crossings(best, links):
            best = [list(layer) for layer in current]
    return best


def _places(layers: Sequence[Sequence[Node]]) -> dict[Node, int]:
    return {node: place for layer in layers for place, node in enumerate(layer)}


def _crossings(layers: Sequence[Sequence[Node]], links: nx.DiGraph) -> int:
    place, found = _places(layers), 0
    for layer in layers:
        spans = [(place[node], place[effect]) for node in layer for effect in links.succ[node]]
        found += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(spans, 2))
    return found


def _columns(layers: Sequence[Sequence[Node]], links: nx.DiGraph) -> dict[Node, float]:
    """x of every node: near its neighbours' mean, apart from those beside it, from 0."""
    widest = max(map(len, layers))
    x = {n: k + (widest - len(layer)) / 2 for layer in layers for k, n in enumerate(layer)}
    for _ in range(_STEPS):
        for layer in layers:
            near = [[x[m] for m in nx.all_neighbors(links, n)] or [x[n]] for n in layer]
            x |= dict(zip(layer, _apart(layer, [*map(fmean, near)]), strict=True))
    left = min(x.values())
    return {node: value - left for node, value in x.items()}


def _apart(layer: Sequence[Node], wished: Sequence[float]) -> list[float]:
    """Places in order and far enough apart that differ least, in squares, from those wished."""
    # Less the room to their left, places need only not fall: a monotone regression, solved by
    # merging neighbours that are out of order into blocks at their mean.
    rooms = [1.0 if str in map(type, pair) else _NARROW for pair in pairwise(layer)]
    offsets = list(accumulate(rooms, initial=0.0))
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, size = blocks.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]
