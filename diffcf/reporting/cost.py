"""Quality against cost, a point per method, and how figures are written. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from diffcf.io import MARK, whole_file

Points = Mapping[str, Sequence[tuple[float, float]]]
"""By method, (seconds per counterfactual, ACM) of each seed."""

# Sizes in points of 1/72 inch.
_LETTERS, _MARKER = 8, 5
# Where a name may stand, nearest first: how far from its point, and on which side (right, up).
_DISTANCES = (7, 13, 22, 34, 48, 64)
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_ALIGNED = {1: "left", 0: "center", -1: "right"}


def save_figure(figure: Figure, path: Path, described: Mapping[str, str] | None = None) -> None:
    """Write a PNG (with texts inside, by keyword), SVG or PDF, whole or not at all.

    A PNG bears our mark, so that it is not counted among images.
    """
    ending, texts = path.suffix[1:].lower(), dict(described or {})
    with whole_file(path) as unfinished:
        if ending == "png":
            texts[MARK] = "figure"
        figure.savefig(unfinished, format=ending, metadata=texts)


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
        x, y = centre = np.mean(seeds, 0)
        reach = np.stack([centre - np.min(seeds, 0), np.max(seeds, 0) - centre])
        axis.errorbar(
            x, y, reach[:, 1:], reach[:, :1], fmt="o", markersize=_MARKER, color=f"C{place % 10}",
            capsize=2, elinewidth=1,
        )  # fmt: skip
    _scale(axis, points, nothing)
    if nothing is not None:
        axis.axhline(nothing, color="0.4", linestyle="--", linewidth=1)
        axis.annotate(
            "do nothing", (0.01, nothing), (0, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=_LETTERS, color="0.4",
        )  # fmt: skip
    canvas.draw()  # fixes the layout, and so where names have room
    _name(axis, points, canvas.get_renderer())
    return figure


def _scale(axis: Axes, points: Points, nothing: float | None) -> None:
    """Logarithmic axes with room for names, ticks at 1, 2 and 5."""
    seconds, heights = zip(*chain.from_iterable(points.values()), strict=True)
    heights = heights if nothing is None else (*heights, nothing)
    axis.set(xscale="log", xlim=(min(seconds) / 3, max(seconds) * 3))
    axis.set(yscale="log", ylim=(min(heights) / 1.7, max(heights) * 1.7))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.tick_params(labelsize=_LETTERS)
    axis.grid(color="0.92", linewidth=0.6)
    axis.set_axisbelow(True)


# --- names, so that none covers another or a point ---


def _name(axis: Axes, points: Points, renderer: RendererBase) -> None:
    """Every name in the nearest free place beside its point, with a line where it is not near."""
    unit, frame = axis.figure.dpi / 72, axis.get_window_extent(renderer)
    taken = [text.get_window_extent(renderer) for text in axis.texts]
    taken += [box for seeds in points.values() for box in _covered(axis, seeds, unit)]
    taken += [line.get_window_extent(renderer).padded(unit) for line in axis.lines]
    for name, seeds in points.items():
        centre = tuple(np.mean(seeds, 0))
        note = axis.annotate(name, centre, (0, 0), textcoords="offset points", fontsize=_LETTERS)
        size = note.get_window_extent(renderer)
        note.remove()
        places = list(_places(axis.transData.transform(centre), size, unit))
        inside = [p for p in places if frame.count_contains(p[1].corners()) == 4] or places
        free = [p for p in inside if not any(p[1].overlaps(box) for box in taken)] or inside
        (right, up, distance), box = free[0]
        taken.append(box)
        line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkB": _MARKER / 2}
        axis.annotate(
            name, centre, (distance * right, distance * up), textcoords="offset points",
            ha=_ALIGNED[right], va="center", fontsize=_LETTERS,
            arrowprops=line if distance > _DISTANCES[0] else None,
        )  # fmt: skip


def _places(at: np.ndarray, size: Bbox, unit: float) -> Iterator[tuple[tuple[int, int, int], Bbox]]:
    """Sides and distances of a name around a point, with the pixels it would cover."""
    for distance, (right, up) in product(_DISTANCES, _SIDES):
        left = at[0] + distance * right * unit + (right - 1) / 2 * size.width
        low = at[1] + distance * up * unit - size.height / 2
        covered = Bbox.from_bounds(left, low, size.width, size.height).padded(unit)
        yield (right, up, distance), covered


def _covered(axis: Axes, seeds: Sequence[tuple[float, float]], unit: float) -> list[Bbox]:
    """The pixels of a point and of its bars."""
    place = axis.transData.transform
    x, y = place(np.mean(seeds, 0))
    low, high = place(np.min(seeds, 0)), place(np.max(seeds, 0))
    point = Bbox([[x, y], [x, y]]).padded(_MARKER / 2 * unit + unit)
    across, along = Bbox([[low[0], y], [high[0], y]]), Bbox([[x, low[1]], [x, high[1]]])
    return [point, across.padded(2 * unit), along.padded(2 * unit)]
