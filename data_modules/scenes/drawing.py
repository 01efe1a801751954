"""Anti-aliased shapes: how much of each pixel a shape covers (box filter), batched in torch.

All coordinates are in pixels, x to the right and y *up*, as in matplotlib. Pixels are named by
their lower left corners: ``columns`` ``[w]`` and ``rows`` ``[h]`` may be any window of the picture.
Coverages are ``[B, h, w]`` in [0, 1], positions and radii ``[B]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import TypeVar

import torch
from torch import Tensor

SUB_COLUMNS = 4
# Drawn at once: few, large operations, because on busy cores every parallel one waits for all
# threads; 2,048 images at 64 pixels, a canvas of 100 MB.
CHUNK_PIXELS = 2**23


def draw_in_chunks(
    paint_chunk: Callable[[Tensor, Frame], Tensor], native: Tensor, frame: Frame
) -> Tensor:
    """Draw rows of ``native`` ``[B, N]`` as float32 ``[B, 3, S, S]`` in [-1, 1], row 0 on top.

    Args:
        paint_chunk: gives some of the rows as a canvas in [0, 1] whose row 0 is at the *bottom*.

    Raises:
        ValueError: for factors that are not finite.
    """
    native = native.float()
    if not torch.isfinite(native).all():
        raise ValueError("Cannot draw factors that are NaN or infinite: check what made them.")
    size = frame.image_size
    images = torch.empty(len(native), 3, size, size, device=native.device)
    chunk = CHUNK_PIXELS // size**2
    for start in range(0, len(native), chunk):
        part = slice(start, start + chunk)
        images[part] = paint_chunk(native[part], frame).flip(2).mul_(2).sub_(1)
    return images


def interval_coverage(low: Tensor, high: Tensor, cells: Tensor) -> Tensor:
    """Exact part of each unit cell ``[n, n + 1]`` that lies in ``[low, high]``: ``[B, cells]``."""
    low, high = low[..., None], high[..., None]
    return (torch.minimum(high, cells + 1) - torch.maximum(low, cells)).clamp(min=0)


def rectangle_coverage(
    left: Tensor, right: Tensor, bottom: Tensor, top: Tensor, columns: Tensor, rows: Tensor
) -> Tensor:
    """Exact coverage of an axis-aligned rectangle."""
    across = interval_coverage(left, right, columns)
    along = interval_coverage(bottom, top, rows)
    return along[:, :, None] * across[:, None, :]


def ellipse_coverage(
    x: Tensor,
    y: Tensor,
    radius_x: float | Tensor,
    radius_y: float | Tensor,
    columns: Tensor,
    rows: Tensor,
) -> Tensor:
    """Coverage of an axis-aligned ellipse: exact along y, midpoint rule across each pixel."""
    radius_x, radius_y = (
        radius[:, None] if isinstance(radius, Tensor) else radius for radius in (radius_x, radius_y)
    )
    coverage = torch.zeros(len(x), len(rows), len(columns), device=x.device, dtype=x.dtype)
    for k in range(SUB_COLUMNS):
        offset = (columns + (k + 0.5) / SUB_COLUMNS - x[:, None]) / radius_x
        chord = radius_y * (1 - offset.square()).clamp(min=0).sqrt()
        low, high = (y[:, None] - chord)[:, None, :], (y[:, None] + chord)[:, None, :]
        edge = rows[:, None]
        coverage += (torch.minimum(high, edge + 1) - torch.maximum(low, edge)).clamp_(min=0)
    return coverage / SUB_COLUMNS


def half_plane_coverage(distance: Tensor, normal_x: Tensor, normal_y: Tensor) -> Tensor:
    """Exact coverage of the half-plane that holds pixel centres of positive ``distance``.

    A pixel's shadow along the unit normal is a trapezoid, the convolution of boxes as wide as
    |normal_x| and |normal_y|; the coverage is its integral, four second-order ramps.

    Args:
        distance: ``[B, h, w]`` signed distance of the pixels' centres, positive inside.
        normal_x, normal_y: components of the unit normal, broadcastable to ``distance``.
    """
    # Nearly axis-aligned edges would divide by zero; widening the narrow box costs < 1e-4.
    wide_x, wide_y = normal_x.abs().clamp(min=0.01), normal_y.abs().clamp(min=0.01)
    outer, inner = (wide_x + wide_y) / 2, (wide_x - wide_y) / 2
    s = distance.clamp(-1, 1)  # all ramps end inside, and small numbers subtract exactly

    def ramp(u: Tensor) -> Tensor:
        return u.clamp(min=0).square()

    total = ramp(s + outer) - ramp(s + inner) - ramp(s - inner) + ramp(s - outer)
    return (total / (2 * wide_x * wide_y)).clamp(0, 1)


def segment_coverage(
    start: tuple[Tensor, Tensor],
    end: tuple[Tensor, Tensor],
    width: float,
    columns: Tensor,
    rows: Tensor,
) -> Tensor:
    """Coverage of a straight stroke with butt ends; exact except at its four corners."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = torch.hypot(along_x, along_y).clamp(min=1e-6)
    along_x, along_y = along_x / length, along_y / length
    dx = (columns + 0.5 - start[0][:, None])[:, None, :]
    dy = (rows + 0.5 - start[1][:, None])[:, :, None]
    ux, uy = along_x[:, None, None], along_y[:, None, None]
    forward, aside = dx * ux + dy * uy, dx * uy - dy * ux
    # A strip is the difference of two half-planes, so strokes thinner than a pixel stay right.
    strip = half_plane_coverage(aside + width / 2, uy, ux)
    strip = strip - half_plane_coverage(aside - width / 2, uy, ux)
    reach = half_plane_coverage(forward, ux, uy)
    reach = reach - half_plane_coverage(forward - length[:, None, None], ux, uy)
    return strip * reach


def paint(canvas: Tensor, coverage: Tensor, colour: tuple[float, float, float]) -> None:
    """Lay ``colour`` over the ``[B, 3, h, w]`` canvas in place, as opaque as ``coverage``."""
    for channel, value in enumerate(colour):
        layer = canvas[:, channel]
        layer += coverage * (value - layer)


Number = TypeVar("Number", float, Tensor)

IMAGE_SIZES = (32, 64, 96, 128)
# Where matplotlib puts the axes, as parts of the figure: left, right, bottom, top.
SUBPLOT = (0.125, 0.9, 0.11, 0.88)


@dataclass(frozen=True)
class Frame:
    """The map from native units (both axes upward from their first limit) to pixels.

    Raises:
        ValueError: when ``image_size`` is not one of :data:`IMAGE_SIZES`.
    """

    image_size: int
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            sizes = ", ".join(map(str, IMAGE_SIZES))
            raise ValueError(f"image_size {self.image_size} is not drawn: use one of {sizes}.")

    @property
    def unit_x(self) -> float:
        share = SUBPLOT[1] - SUBPLOT[0]
        return self.image_size * share / (self.x_limits[1] - self.x_limits[0])

    @property
    def unit_y(self) -> float:
        share = SUBPLOT[3] - SUBPLOT[2]
        return self.image_size * share / (self.y_limits[1] - self.y_limits[0])

    @property
    def point(self) -> float:
        """Pixels in one typographic point: the figure is an inch wide, so dpi = image_size."""
        return self.image_size / 72

    def x(self, native: Number) -> Number:
        return self.image_size * SUBPLOT[0] + self.unit_x * (native - self.x_limits[0])

    def y(self, native: Number) -> Number:
        return self.image_size * SUBPLOT[2] + self.unit_y * (native - self.y_limits[0])

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The clip rectangle in whole pixels: left, right, bottom, top."""
        left, right, bottom, top = (floor(self.image_size * side + 0.5) for side in SUBPLOT)
        return left, right, bottom, top

    def pixels(self, low: float, high: float, axis: str) -> tuple[int, int]:
        """First and one-past-last pixel inside the box that ``[low, high]`` touches."""
        left, right, bottom, top = self.box
        first, last = (left, right) if axis == "x" else (bottom, top)
        start = min(max(floor(low), first), last)
        return start, max(min(floor(high) + 1, last), start)
