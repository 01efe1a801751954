"""The pendulum's picture: where things are, in native units and in pixels, and how to draw them.

Follows the script that made the published images, CausalVAE's ``causal_data/pendulum.py``
(Yang et al., "CausalVAE", CVPR 2021), drawn by matplotlib on a 1×1 inch figure. Two of
matplotlib's habits are kept: a disc named by colour alone has a 1 pt outline of that colour, so it
is half a point larger all round, and artists are clipped to the axes box rounded to whole pixels.
One is not: matplotlib snaps horizontal and vertical strokes to whole pixels, which would quantise
the shadow; here it is drawn at sub-pixel precision, as matplotlib does after ``set_snap(False)``.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.drawing import (
    IMAGE_SIZES,
    Frame,
    draw_in_chunks,
    ellipse_coverage,
    interval_coverage,
    paint,
    rectangle_coverage,
    segment_coverage,
)
from data_modules.scenes.unmixing import THRESHOLD, centroid, dilate, read_in_chunks, unmix

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


def project(x: Tensor | float, y: Tensor | float, light: Tensor, base: float) -> Tensor:
    """Where the ray through (x, y) at elevation ``light`` (radians) meets the height ``base``."""
    return x + (base - y) * light.cos() / light.sin()


def ball_centre(angle: Tensor, reach: float = ROD_LENGTH) -> tuple[Tensor, Tensor]:
    """The point ``reach`` along a pendulum that hangs at ``angle`` (radians) from the vertical."""
    return PIVOT[0] + reach * angle.sin(), PIVOT[1] - reach * angle.cos()


def light_on(light: Tensor) -> Tensor:
    """The sun's x for a light of elevation ``light`` (radians)."""
    return project(*PIVOT, light, SUN_HEIGHT)


def pendulum_frame(image_size: int) -> Frame:
    """The axes of a pendulum picture: x 0…20, y −1…21."""
    return Frame(image_size, (0.0, 20.0), (-1.0, 21.0))


def shadow_rows(frame: Frame) -> tuple[float, float]:
    """Lower and upper edge of the shadow's stroke, in pixels, before clipping."""
    middle, half = frame.y(GROUND), STROKE_POINTS / 2 * frame.point
    return middle - half, middle + half


def draw(native: Tensor, image_size: int) -> Tensor:
    """Draw native angle, light, length, position ``[B, 4]`` as float32 ``[B, 3, S, S]`` in [-1, 1].

    Raises:
        ValueError: for an unknown ``image_size``, or factors that are not finite.
    """
    return draw_in_chunks(_draw_chunk, native, pendulum_frame(image_size))


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
    bottom, top = (torch.full_like(left, edge) for edge in shadow_rows(frame))
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


CALIBRATION_POINTS = 1025
# Lights a little outside the published 60…147 (in π/200) still have a calibrated sun.
CALIBRATION_RANGE = (torch.pi * 56 / 200, torch.pi * 151 / 200)


def read_native(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure ``[B, 3, S, S]`` images in [-1, 1].

    Returns:
        Native angle, light (radians), length and position as float32 ``[B, 4]``, and ``[B, 4]``
        bool, whether there was anything to measure: elsewhere the value is meaningless but finite.

    Raises:
        ValueError: when the images are not square RGB of a size that the scene draws.
    """
    return read_in_chunks(_read_chunk, images)


def _read_chunk(images: Tensor) -> tuple[Tensor, Tensor]:
    frame = pendulum_frame(images.shape[-1])
    weights = unmix(images, COLOURS)
    angle, ball_found = _read_angle(weights["firebrick"], frame)
    light, sun_found = _read_light(weights["orange"], frame)
    length, position, shadow_found = _read_shadow(weights["black"], frame)
    found = torch.stack([ball_found, sun_found, shadow_found, shadow_found], dim=1)
    return torch.stack([angle, light, length, position], dim=1), found


def _read_angle(firebrick: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, y, found = centroid(firebrick)
    across = (x - frame.x(PIVOT[0])) / frame.unit_x
    below = (frame.y(PIVOT[1]) - y) / frame.unit_y
    return torch.atan2(across, below), found


def _read_light(orange: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    x, _, found = centroid(orange)
    centroids, lights = (table.to(x.device) for table in _light_calibration(frame.image_size))
    upper = torch.searchsorted(centroids, x.contiguous()).clamp(1, len(centroids) - 1)
    lower = upper - 1
    # The first and last pieces extend beyond the table: nothing is clamped.
    slope = (lights[upper] - lights[lower]) / (centroids[upper] - centroids[lower])
    return lights[lower] + slope * (x - centroids[lower]), found


@lru_cache(maxsize=len(IMAGE_SIZES))
def _light_calibration(image_size: int) -> tuple[Tensor, Tensor]:
    """Centroid of the drawn sun against the light, both ``[N]``, by ascending centroid."""
    lights = torch.linspace(*CALIBRATION_RANGE, CALIBRATION_POINTS)
    # Cached tensors must serve autograd too, wherever the first read happened.
    with torch.inference_mode(False), torch.no_grad():
        native = pad(lights[:, None], (1, 2))
        parts = [unmix(draw(some, image_size), COLOURS)["orange"] for some in native.split(256)]
        centroids = torch.cat([centroid(part)[0] for part in parts])
    order = centroids.argsort()
    return centroids[order], lights[order]


def _read_shadow(black: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    # Only the stroke's best covered rows: its rim would tell where the stroke lies, not how dark
    # it is, and matplotlib's snapping moves the rim of the published images.
    bottom, top = (torch.tensor([edge]) for edge in shadow_rows(frame))
    first, last = frame.box[2:]
    cover = interval_coverage(bottom, top, torch.arange(first, last))[0]
    rows = frame.image_size - 1 - first - (cover > cover.max() - 1e-4).nonzero()[:, 0]
    profile = black[:, rows.to(black.device)].mean(1).clamp(min=0) / float(cover.max())
    strong = profile > THRESHOLD
    kept = profile * dilate(strong)
    total = kept.sum(1)
    centres = torch.arange(black.shape[2], device=black.device) + 0.5
    x = (kept * centres).sum(1) / total.clamp(min=1e-6)
    position = (x - frame.x(0.0)) / frame.unit_x
    return total / frame.unit_x, position, strong.any(1)
