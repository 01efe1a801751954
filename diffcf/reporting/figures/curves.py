"""Measurements as curves: λ_t, dose and response, distributions of errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from statistics import mean
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation import READING, VALUE, Strength

Rows = tuple[Tensor, Tensor, Tensor]
"""Values ``[n, Q]``, group ``[n]`` and image ``[n]`` (:meth:`ImageMetric.gathered`)."""


def strength_curve(traces: Mapping[str, Sequence[Strength]]) -> Figure:
    """λ_t against t, a line per intervention: the median over images, and where 80% of them are."""
    figure = Figure(figsize=(5, 3), dpi=150, layout="constrained")
    axis = figure.subplots()
    for place, (name, trace) in enumerate(traces.items()):
        times, middle, low, high = (torch.tensor(column) for column in zip(*trace, strict=True))
        # Side by side, since all are guided at the same times.
        times = times + 0.006 * (place - (len(traces) - 1) / 2)
        reach = torch.stack([middle - low, high - middle])
        axis.errorbar(times, middle, reach, label=f"do({name})", fmt="o-", lw=1, ms=3, capsize=2)
    guided = [strength.t for trace in traces.values() for strength in trace]
    axis.set(
        xlabel="t", ylabel="λ_t", ylim=(0, None), xlim=(max(guided) + 0.05, min(guided) - 0.05)
    )
    figure.legend(fontsize=7, loc="outside right upper")
    return figure


def dose_response(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor, the value set against the value read back, with the diagonal.

    Args:
        rows: of :class:`diffcf.evaluation.metrics.effectiveness.Effectiveness`.
        graph: the factors. A discrete factor shows the mean reading of each level set.
    """
    values, group, _ = rows
    figure, axes = _panels(len(graph))
    for column, (factor, axis) in enumerate(zip(graph.factors, axes, strict=True)):
        here = group == column
        read, dose = values[here, READING], values[here, VALUE]
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        axis.set(title=factor.name, xlabel="set", ylabel="read", xlim=(-0.05, 1.05))
        if factor.kind == "continuous":
            axis.scatter(dose, read, s=3, alpha=0.4, linewidths=0)
        else:
            levels = dose.unique()
            means = torch.stack([read[dose == level].mean() for level in levels])
            axis.plot(levels, means, "o")
        _small(axis)
    return figure


def error_histograms(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor read, how its errors are distributed when it was set, and when another was.

    Args:
        rows: of :class:`diffcf.evaluation.metrics.acm.ACM`: the mismatch of every factor.
        graph: the factors.
    """
    values, group, _ = rows
    figure, axes = _panels(len(graph))
    for column, (factor, axis) in enumerate(zip(graph.factors, axes, strict=True)):
        own, other = values[group == column, column], values[group != column, column]
        top = max(float(values[:, column].max()), 1e-3)
        for errors, label in ((own, "it was set"), (other, "another was set")):
            # Shares, not counts: the two groups differ in size.
            weights = torch.full_like(errors, 1 / max(len(errors), 1))
            axis.hist(errors, bins=30, range=(0, top), weights=weights, alpha=0.6, label=label)
        axis.set(title=factor.name, xlabel="error", ylabel="share of images", yscale="log")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        _small(axis)
    axes[0].legend(fontsize=6)
    return figure


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """A figure with ``count`` axes, four in a row at most."""
    across = min(count, 4)
    down = -(-count // across)
    figure = Figure(figsize=(2.3 * across, 2.2 * down), dpi=150, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def _small(axis: Any) -> None:
    """Letters that fit a small panel."""
    axis.tick_params(labelsize=6)
    axis.title.set_fontsize(8)
    axis.xaxis.label.set_fontsize(7)
    axis.yaxis.label.set_fontsize(7)


Points = Mapping[str, Sequence[tuple[float, float]]]
"""By method, (seconds per counterfactual, ACM) of each seed."""

# Sizes in points of 1/72 inch.
_LETTERS, _MARKER = 8, 5
# Where a name may stand, nearest first: how far from its point, and on which side (right, up).
_DISTANCES = (7, 13, 22, 34, 48, 64)
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_ALIGNED = {1: "left", 0: "center", -1: "right"}


def quality_cost(points: Points, nothing: float | None = None, title: str = "") -> Figure:
    """One point per method with its name; bars reach from the least to the greatest seed.

    Args:
        points: of every method; seconds and ACM above 0.
        nothing: ACM of doing nothing, a dashed line; None for no line.
        title: above the figure.
    """
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("seconds per counterfactual (log scale)", fontsize=9)
    axis.set_ylabel("ACM, mean of roots and leaves (log scale)", fontsize=9)
    for place, seeds in enumerate(points.values()):
        (x, y), (width, height) = _centre(seeds), _bars(seeds)
        style: dict[str, Any] = {"color": f"C{place % 10}", "capsize": 2, "elinewidth": 1}
        axis.errorbar(x, y, height, width, fmt="o", markersize=_MARKER, **style)
    _scale(axis, points, nothing)
    if nothing is not None:
        axis.axhline(nothing, color="0.4", linestyle="--", linewidth=1)
        axis.annotate(
            "do nothing",
            (0.01, nothing),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=_LETTERS,
            color="0.4",
        )
    canvas.draw()  # fixes the layout, and so where names have room
    _name(axis, points, canvas.get_renderer())
    return figure


def _centre(seeds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return mean(x for x, _ in seeds), mean(y for _, y in seeds)


def _bars(seeds: Sequence[tuple[float, float]]) -> list[list[list[float]]]:
    """Below and above the mean, of either coordinate, as ``Axes.errorbar`` takes them."""
    return [
        [[middle - min(values)], [max(values) - middle]]
        for middle, values in zip(_centre(seeds), zip(*seeds, strict=True), strict=True)
    ]


def _scale(axis: Any, points: Points, nothing: float | None) -> None:
    """Logarithmic axes with room for names, ticks at 1, 2 and 5."""
    seconds, heights = zip(*chain.from_iterable(points.values()), strict=True)
    heights = heights if nothing is None else (*heights, nothing)
    axis.set(xscale="log", yscale="log")
    axis.set(xlim=(min(seconds) / 3, max(seconds) * 3))
    axis.set(ylim=(min(heights) / 1.7, max(heights) * 1.7))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.tick_params(labelsize=_LETTERS)
    axis.grid(color="0.92", linewidth=0.6)
    axis.set_axisbelow(True)


# --- names, so that none covers another or a point ---


def _name(axis: Any, points: Points, renderer: Any) -> None:
    """Every name in the nearest free place beside its point, with a line where it is not near."""
    unit, frame = axis.figure.dpi / 72, axis.get_window_extent(renderer)
    taken = [text.get_window_extent(renderer) for text in axis.texts]
    taken += [box for seeds in points.values() for box in _covered(axis, seeds, unit)]
    for line in axis.lines:
        left, bottom, right, top = line.get_window_extent(renderer).extents
        taken.append(_box(left, bottom, right, top, unit))
    for name, seeds in points.items():
        note = axis.annotate(name, _centre(seeds), (0, 0), textcoords="offset points")
        note.set(fontsize=_LETTERS)
        size, at = note.get_window_extent(renderer), axis.transData.transform(_centre(seeds))
        note.remove()
        places = list(_places(at, size.width, size.height, unit))
        inside = [p for p in places if _within(p[1], frame)] or places
        free = [p for p in inside if not any(p[1].overlaps(box) for box in taken)] or inside
        (right, up, distance), box = free[0]
        taken.append(box)
        line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": _MARKER / 2}
        axis.annotate(
            name,
            _centre(seeds),
            (distance * right, distance * up),
            textcoords="offset points",
            ha=_ALIGNED[right],
            va="center",
            fontsize=_LETTERS,
            arrowprops=line if distance > _DISTANCES[0] else None,
        )


def _places(
    at: Sequence[float], width: float, height: float, unit: float
) -> Iterator[tuple[tuple[int, int, int], Bbox]]:
    """Sides and distances of a name around a point, with the pixels it would cover."""
    for distance, (right, up) in product(_DISTANCES, _SIDES):
        x, y = at[0] + distance * right * unit, at[1] + distance * up * unit
        left = x - {1: 0.0, 0: width / 2, -1: width}[right]
        yield (right, up, distance), _box(left, y - height / 2, left + width, y + height / 2, unit)


def _covered(axis: Any, seeds: Sequence[tuple[float, float]], unit: float) -> list[Bbox]:
    """The pixels of a point and of its bars."""
    (x, y), columns = _centre(seeds), list(zip(*seeds, strict=True))
    low, high = (axis.transData.transform([f(c) for c in columns]) for f in (min, max))
    x, y = axis.transData.transform((x, y))
    around = _MARKER / 2 * unit
    point = _box(x - around, y - around, x + around, y + around, unit)
    return [point, _box(low[0], y, high[0], y, 2 * unit), _box(x, low[1], x, high[1], 2 * unit)]


def _box(left: float, bottom: float, right: float, top: float, margin: float) -> Bbox:
    return Bbox.from_extents(left - margin, bottom - margin, right + margin, top + margin)


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(
        frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    )
