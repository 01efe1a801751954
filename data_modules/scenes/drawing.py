"""Anti-aliased drawing in torch: how much of each pixel a shape covers (box filter), in batches.

Coordinates are in pixels, x to the right and y *up*, as in matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import TypeVar

import torch
from torch import Tensor

Rgb = tuple[float, float, float]
Number = TypeVar("Number", float, Tensor)

# Where matplotlib puts the axes, as parts of the figure: left, right, bottom, top.
SUBPLOT = (0.125, 0.9, 0.11, 0.88)
SUB_COLUMNS = 4  # of a pixel, across which an ellipse is sampled
NEWTON_STEPS = 5
POINTS = 50  # of a parabola: numpy's linspace, with which Flow's published script samples heights
# Drawn at once: few, large operations, because on busy cores every parallel one waits for all
# threads; 2,048 images at 64 pixels, a canvas of 100 MB.
CHUNK_PIXELS = 2**23


@dataclass(frozen=True)
class Frame:
    """The map from native units (both axes upward from their first limit) to pixels.

    With ``snapped``, :meth:`on_columns` and :meth:`on_rows` move coordinates to whole pixels as
    matplotlib's Agg backend does with strokes that are horizontal or vertical.
    """

    image_size: int
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    snapped: bool = False

    @property
    def unit_x(self) -> float:
        """Pixels in one native unit of x."""
        return self.image_size * (SUBPLOT[1] - SUBPLOT[0]) / (self.x_limits[1] - self.x_limits[0])

    @property
    def unit_y(self) -> float:
        """Pixels in one native unit of y."""
        return self.image_size * (SUBPLOT[3] - SUBPLOT[2]) / (self.y_limits[1] - self.y_limits[0])

    @property
    def point(self) -> float:
        """Pixels in one typographic point: the figure is an inch wide, so dpi = image_size."""
        return self.image_size / 72

    def x(self, native: Number) -> Number:
        """Native x to pixels."""
        return self.image_size * SUBPLOT[0] + self.unit_x * (native - self.x_limits[0])

    def y(self, native: Number) -> Number:
        """Native y to pixels."""
        return self.image_size * SUBPLOT[2] + self.unit_y * (native - self.y_limits[0])

    def on_columns(self, x: Number, stroke: float) -> Number:
        """Where a corner at ``x`` of a path of that stroke width (all in pixels) is drawn."""
        return _floor(x + 0.5) + _snap_offset(stroke) if self.snapped else x

    def on_rows(self, y: Number, stroke: float) -> Number:
        """As :meth:`on_columns`, along y; matplotlib rounds when its rows already count down."""
        return -_floor(0.5 - y) - _snap_offset(stroke) if self.snapped else y

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The clip rectangle in whole pixels: left, right, bottom, top."""
        left, right, bottom, top = (floor(self.image_size * side + 0.5) for side in SUBPLOT)
        return left, right, bottom, top

    def window(self, canvas: Tensor, x: tuple[float, float], y: tuple[float, float]) -> Window:
        """The part of a canvas ``[B, 3, S, S]`` that these limits (in pixels) touch in the box."""
        left, right, bottom, top = self.box
        columns, rows = _touched(*x, left, right), _touched(*y, bottom, top)
        numbers = torch.arange(self.image_size, device=canvas.device, dtype=canvas.dtype)
        return Window(canvas[:, :, rows, columns], numbers[columns], numbers[rows])


def _floor(value: Number) -> Number:
    return value.floor() if isinstance(value, Tensor) else floor(value)


def _snap_offset(stroke: float) -> float:
    """Strokes of an odd number of whole pixels are centred in a pixel, others between two."""
    return floor(stroke + 0.5) % 2 / 2


def _touched(low: float, high: float, first: int, last: int) -> slice:
    """The whole pixels from ``first`` to before ``last`` that ``[low, high]`` touches."""
    start = min(max(floor(low), first), last)
    return slice(start, max(min(floor(high) + 1, last), start))


@dataclass(frozen=True)
class Window:
    """Part of a canvas, and the shapes that are painted on it.

    A shape's coverage of the pixels is ``[B, h, w]`` in [0, 1]; positions and lengths are ``[B]``,
    in pixels.

    Attributes:
        pixels: view of the canvas, ``[B, 3, h, w]``, row 0 at the *bottom*.
        columns, rows: x and y ``[w]`` and ``[h]`` of the pixels' lower left corners.
    """

    pixels: Tensor
    columns: Tensor
    rows: Tensor

    def paint(self, coverage: Tensor, colour: Rgb) -> None:
        """Lay ``colour`` over the pixels in place, as opaque as ``coverage``."""
        for channel, value in enumerate(colour):
            layer = self.pixels[:, channel]
            layer += coverage * (value - layer)

    def rectangle(self, left: Tensor, right: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
        """Exact coverage of an axis-aligned rectangle."""
        across = interval_coverage(left, right, self.columns)
        along = interval_coverage(bottom, top, self.rows)
        return along[:, :, None] * across[:, None, :]

    def ellipse(self, x: Tensor, y: Tensor, radius_x: Tensor, radius_y: Tensor) -> Tensor:
        """Coverage of an axis-aligned ellipse: exact along y, midpoint rule across each pixel."""
        x, y, radius_x, radius_y = (part[:, None] for part in (x, y, radius_x, radius_y))
        coverage = torch.zeros(len(x), *self.pixels.shape[2:], device=x.device, dtype=x.dtype)
        edge = self.rows[:, None]
        for k in range(SUB_COLUMNS):
            offset = (self.columns + (k + 0.5) / SUB_COLUMNS - x) / radius_x
            chord = radius_y * (1 - offset.square()).clamp(min=0).sqrt()
            low, high = (y - chord)[:, None, :], (y + chord)[:, None, :]
            coverage += (torch.minimum(high, edge + 1) - torch.maximum(low, edge)).clamp_(min=0)
        return coverage / SUB_COLUMNS

    def segment(
        self, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor], width: float
    ) -> Tensor:
        """Coverage of a straight stroke with butt ends; exact except at its four corners."""
        ux, uy = end[0] - start[0], end[1] - start[1]
        length = torch.hypot(ux, uy).clamp(min=1e-6)
        ux, uy = (ux / length)[:, None, None], (uy / length)[:, None, None]
        dx = (self.columns + 0.5 - start[0][:, None])[:, None, :]
        dy = (self.rows + 0.5 - start[1][:, None])[:, :, None]
        forward, aside = dx * ux + dy * uy, dx * uy - dy * ux
        return _stroke(aside, forward, forward - length[:, None, None], width, ux, uy)

    def parabola(
        self, start: tuple[Tensor, Tensor], reach: Tensor, drop: Tensor, width: float
    ) -> Tensor:
        """Coverage of a stroke along x = ``reach`` √(y / ``drop``), y downwards from ``start``.

        In the units of the parabola, u = √v with v the height fallen, the polyline has its corners
        at evenly spaced v. Every pixel belongs to the segment nearest to it, whose exact
        half-planes are drawn, so only the pixels at corners are approximate. Both ends project by
        half the width. ``reach`` and ``drop`` are positive.
        """
        reach, drop = reach[:, None, None], drop[:, None, None]
        right = (self.columns + 0.5 - start[0][:, None])[:, None, :]
        fallen = (start[1][:, None] - self.rows - 0.5)[:, :, None]
        last = POINTS - 2
        nearest = _nearest_on_parabola(right, fallen, reach, drop)
        first = (nearest.square() * (last + 1)).floor().clamp(max=last)
        v, next_v = first / (last + 1), (first + 1) / (last + 1)
        # Along the segment, in pixels to the right and down.
        ux, uy = (next_v.sqrt() - v.sqrt()) * reach, drop / (last + 1)
        length = torch.hypot(ux, uy)
        ux, uy = ux / length, uy / length
        dx, dy = right - v.sqrt() * reach, fallen - v * drop
        aside, forward = dx * uy - dy * ux, dx * ux + dy * uy
        begin = torch.where(first == 0, forward + width / 2, 1.0)
        beyond = torch.where(first == last, forward - length - width / 2, -1.0)
        return _stroke(aside, begin, beyond, width, ux, uy)


def checked_finite(factors: Tensor) -> Tensor:
    """``factors`` as float32; ValueError for NaN and infinity."""
    factors = factors.float()
    if not torch.isfinite(factors).all():
        raise ValueError("Cannot draw factors that are NaN or infinite: check what made them.")
    return factors


def draw_in_chunks(
    paint_all: Callable[[Tensor, Tensor, Frame], None], native: Tensor, frame: Frame
) -> Tensor:
    """Draw rows of ``native`` ``[B, N]`` as float32 ``[B, 3, S, S]`` in [-1, 1], row 0 on top.

    ``paint_all`` paints some rows, in place, on a white canvas ``[b, 3, S, S]`` in [0, 1] whose
    row 0 is at the *bottom*. ValueError for factors that are not finite.
    """
    native, size = checked_finite(native), frame.image_size
    images = torch.empty(len(native), 3, size, size, device=native.device)
    chunk = CHUNK_PIXELS // size**2
    for start in range(0, len(native), chunk):
        part = slice(start, start + chunk)
        canvas = torch.ones_like(images[part])
        paint_all(canvas, native[part], frame)
        images[part] = canvas.flip(2).mul_(2).sub_(1)
    return images


def interval_coverage(low: Tensor, high: Tensor, cells: Tensor) -> Tensor:
    """Exact part of each unit cell ``[n, n + 1]`` that lies in ``[low, high]``: ``[B, cells]``."""
    low, high = low[..., None], high[..., None]
    return (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(min=0)


def _half_plane(distance: Tensor, normal_x: Tensor, normal_y: Tensor) -> Tensor:
    """Exact coverage of a half-plane, from the signed ``distance`` ``[B, h, w]`` of the pixels'
    centres, positive inside, and the components of its unit normal (broadcastable).

    A pixel's projection onto the unit normal is a trapezoid, the convolution of boxes as wide as
    |normal_x| and |normal_y|; the coverage is its integral, four second-order ramps.
    """
    # Nearly axis-aligned edges would divide by zero; widening the narrow box costs < 1e-4.
    wide_x, wide_y = normal_x.abs().clamp(min=0.01), normal_y.abs().clamp(min=0.01)
    outer, inner = (wide_x + wide_y) / 2, (wide_x - wide_y) / 2
    s = distance.clamp(-1, 1)  # all ramps end inside, and small numbers subtract exactly

    def ramp(u: Tensor) -> Tensor:
        return u.clamp(min=0).square()

    total = ramp(s + outer) - ramp(s + inner) - ramp(s - inner) + ramp(s - outer)
    return (total / (2 * wide_x * wide_y)).clamp(0, 1)


def _stroke(
    aside: Tensor, begin: Tensor, beyond: Tensor, width: float, ux: Tensor, uy: Tensor
) -> Tensor:
    """Coverage of strokes along the unit vector (ux, uy), from signed distances ``[B, h, w]``:
    ``aside`` from the middle line, ``begin`` and ``beyond`` from the lines across its two ends."""
    # A strip is the difference of two half-planes, so strokes thinner than a pixel stay right.
    strip = _half_plane(aside + width / 2, uy, ux) - _half_plane(aside - width / 2, uy, ux)
    return strip * (_half_plane(begin, ux, uy) - _half_plane(beyond, ux, uy))


def _nearest_on_parabola(right: Tensor, fallen: Tensor, reach: Tensor, drop: Tensor) -> Tensor:
    """The u in [0, 1] of the parabola's nearest point, by Newton's method.

    The squared distance has its least value between the points straight beside and straight above
    the pixel; from the larger u of the two Newton's steps on its (convex) derivative do not
    overshoot.
    """
    u = torch.maximum(right / reach, (fallen / drop).clamp(min=0).sqrt()).clamp(0, 1)
    for _ in range(NEWTON_STEPS):
        slope = reach * (reach * u - right) + 2 * drop * u * (drop * u.square() - fallen)
        curvature = reach.square() + 2 * drop * (3 * drop * u.square() - fallen)
        u = (u - slope / curvature.clamp(min=1e-6)).clamp(0, 1)
    return u
