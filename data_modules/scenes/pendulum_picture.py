"""The pendulum's picture: where things are, in native units and in pixels, and how to draw them.

Follows the script that made the published images, CausalVAE's ``causal_data/pendulum.py``
(Yang et al., "CausalVAE", CVPR 2021), drawn by matplotlib on a 1×1 inch figure. Two of
matplotlib's habits are kept: a disc named by colour alone has a 1 pt outline of that colour, so it
is half a point larger all round, and artists are clipped to the axes box rounded to whole pixels.
One is not: matplotlib snaps horizontal and vertical strokes to whole pixels, which would quantise
the shadow; here it is drawn at sub-pixel precision, as matplotlib does after ``set_snap(False)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TypeVar

import torch
from torch import Tensor

from data_modules.scenes.drawing import (
    ellipse_coverage,
    paint,
    rectangle_coverage,
    segment_coverage,
)

__all__ = ["COLOURS", "IMAGE_SIZES", "Frame", "ball_centre", "draw", "light_on", "project"]

Number = TypeVar("Number", float, Tensor)

IMAGE_SIZES = (32, 64, 96, 128)
COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "orange": (1.0, 165 / 255, 0.0),
    "firebrick": (178 / 255, 34 / 255, 34 / 255),
    "black": (0.0, 0.0, 0.0),
}
PIVOT = (10.0, 10.5)
ROD_LENGTH = 8.0
BALL_RADIUS = 1.5
SUN_RADIUS = 3.0
SUN_HEIGHT = 20.5
GROUND = -0.5
STROKE_POINTS = 3.0
OUTLINE_POINTS = 1.0
# Drawn at once: few, large operations, because on busy cores every parallel one waits for all
# threads; 2,048 images at 64 pixels, a canvas of 100 MB.
CHUNK_PIXELS = 2**23


def project(x: Tensor | float, y: Tensor | float, light: Tensor, base: float) -> Tensor:
    """Where the ray through (x, y) at elevation ``light`` (radians) meets the height ``base``."""
    return x + (base - y) * light.cos() / light.sin()


def ball_centre(angle: Tensor, reach: float = ROD_LENGTH) -> tuple[Tensor, Tensor]:
    """The point ``reach`` along a pendulum that hangs at ``angle`` (radians) from the vertical."""
    return PIVOT[0] + reach * angle.sin(), PIVOT[1] - reach * angle.cos()


def light_on(light: Tensor) -> Tensor:
    """The sun's x for a light of elevation ``light`` (radians)."""
    return project(*PIVOT, light, SUN_HEIGHT)


@dataclass(frozen=True)
class Frame:
    """The map from native units (x 0…20, y −1…21, up) to pixels of an ``image_size`` picture.

    Raises:
        ValueError: when ``image_size`` is not one of :data:`IMAGE_SIZES`.
    """

    image_size: int

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            sizes = ", ".join(map(str, IMAGE_SIZES))
            raise ValueError(f"image_size {self.image_size} is not drawn: use one of {sizes}.")

    @property
    def unit_x(self) -> float:
        return self.image_size * 0.775 / 20

    @property
    def unit_y(self) -> float:
        return self.image_size * 0.77 / 22

    @property
    def point(self) -> float:
        """Pixels in one typographic point: the figure is an inch wide, so dpi = image_size."""
        return self.image_size / 72

    def x(self, native: Number) -> Number:
        return self.image_size * 0.125 + self.unit_x * native

    def y(self, native: Number) -> Number:
        return self.image_size * 0.11 + self.unit_y * (native + 1)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The clip rectangle in whole pixels: left, right, bottom, top."""
        left, right, bottom, top = (
            floor(self.image_size * side + 0.5) for side in (0.125, 0.9, 0.11, 0.88)
        )
        return left, right, bottom, top

    @property
    def shadow_rows(self) -> tuple[float, float]:
        """Lower and upper edge of the shadow's stroke, before clipping."""
        middle, half = self.y(GROUND), STROKE_POINTS / 2 * self.point
        return middle - half, middle + half

    def pixels(self, low: float, high: float, axis: str) -> tuple[int, int]:
        """First and one-past-last pixel inside the box that ``[low, high]`` touches."""
        left, right, bottom, top = self.box
        first, last = (left, right) if axis == "x" else (bottom, top)
        start = min(max(floor(low), first), last)
        return start, max(min(floor(high) + 1, last), start)


def draw(native: Tensor, image_size: int) -> Tensor:
    """Draw native angle, light, length, position ``[B, 4]`` as float32 ``[B, 3, S, S]`` in [-1, 1].

    Raises:
        ValueError: for an unknown ``image_size``, or factors that are not finite.
    """
    frame = Frame(image_size)
    native = native.float()
    if not torch.isfinite(native).all():
        raise ValueError("Cannot draw factors that are NaN or infinite: check what made them.")
    images = torch.empty(len(native), 3, image_size, image_size, device=native.device)
    chunk = CHUNK_PIXELS // image_size**2
    for start in range(0, len(native), chunk):
        part = slice(start, start + chunk)
        images[part] = _draw_chunk(native[part], frame).flip(2).mul_(2).sub_(1)
    return images


def _draw_chunk(native: Tensor, frame: Frame) -> Tensor:
    """``[B, 4]`` native factors as ``[B, 3, S, S]`` in [0, 1], row 0 at the *bottom*."""
    canvas = torch.ones(len(native), 3, frame.image_size, frame.image_size, device=native.device)
    angle, light, length, position = native.unbind(1)
    x, y = (frame.x, frame.y)
    outline, stroke = OUTLINE_POINTS / 2 * frame.point, STROKE_POINTS * frame.point
    ball_x, ball_y = (axis(c) for axis, c in zip((x, y), ball_centre(angle), strict=True))
    pivot_x, pivot_y = torch.full_like(ball_x, x(PIVOT[0])), torch.full_like(ball_y, y(PIVOT[1]))

    columns, rows, window = _window(canvas, frame, (pivot_x, ball_x), (pivot_y, ball_y), stroke)
    rod = segment_coverage((pivot_x, pivot_y), (ball_x, ball_y), stroke, columns, rows)
    paint(window, rod, COLOURS["black"])

    for centre_x, centre_y, radius, colour in (
        (ball_x, ball_y, BALL_RADIUS, COLOURS["firebrick"]),
        (x(light_on(light)), torch.full_like(light, y(SUN_HEIGHT)), SUN_RADIUS, COLOURS["orange"]),
    ):
        radius_x, radius_y = radius * frame.unit_x + outline, radius * frame.unit_y + outline
        reach = max(radius_x, radius_y)
        columns, rows, window = _window(canvas, frame, (centre_x,), (centre_y,), reach)
        disc = ellipse_coverage(centre_x, centre_y, radius_x, radius_y, columns, rows)
        paint(window, disc, colour)

    left, right = x(position - length / 2), x(position + length / 2)
    bottom, top = (torch.full_like(left, edge) for edge in frame.shadow_rows)
    columns, rows, window = _window(canvas, frame, (left, right), (bottom, top), 1.0)
    shadow = rectangle_coverage(left, right, bottom, top, columns, rows)
    paint(window, shadow, COLOURS["black"])
    return canvas


def _window(
    canvas: Tensor, frame: Frame, xs: tuple[Tensor, ...], ys: tuple[Tensor, ...], margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The part of the canvas within ``margin`` of any of the points: columns, rows, view."""
    bounds = []
    for points, axis in ((xs, "x"), (ys, "y")):
        values = torch.stack(points)
        low, high = float(values.min()) - margin, float(values.max()) + margin
        bounds.append(frame.pixels(low, high, axis))
    (left, right), (bottom, top) = bounds
    columns = torch.arange(left, right, device=canvas.device, dtype=canvas.dtype)
    rows = torch.arange(bottom, top, device=canvas.device, dtype=canvas.dtype)
    return columns, rows, canvas[:, :, bottom:top, left:right]
