"""The flow's picture: a cup of water with a ball in it and a jet through a hole in its wall.

Follows the script that made the published images, CausalVAE's ``causal_data/flow.py`` (Yang et
al., "CausalVAE", CVPR 2021), drawn by matplotlib on a 1×1 inch figure. As with the pendulum,
patches named by colour alone have a 1 pt outline, artists are clipped to the axes box, and strokes
are *not* snapped to whole pixels. Lines lie over patches: jet and ground cover cup, water and ball.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes.drawing import (
    Frame,
    draw_in_chunks,
    ellipse_coverage,
    half_plane_coverage,
    paint,
    rectangle_coverage,
)

COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "lightskyblue": (135 / 255, 206 / 255, 250 / 255),
    "firebrick": (178 / 255, 34 / 255, 34 / 255),
    "black": (0.0, 0.0, 0.0),
}
CUP = (3.0, 8.0)  # x of its walls
RIM = 19.0
WATER_BASE = 5.0
GAP = 0.4  # height of the hole in the wall
BALL_X, BALL_BASE = 5.5, 0.5
GROUND = 0.2
JET_END = 0.5
STROKE_POINTS = 2.0
OUTLINE_POINTS = 1.0


def flow_frame(image_size: int) -> Frame:
    """The axes of a flow picture: 0…20 both ways."""
    return Frame(image_size, (0.0, 20.0), (0.0, 20.0))


def draw_flow(native: Tensor, image_size: int) -> Tensor:
    """Draw ball radius, water height, hole height, jet's reach ``[B, 4]``, all in the picture's
    units, as float32 ``[B, 3, S, S]`` in [-1, 1].

    Raises:
        ValueError: for an unknown ``image_size``, or factors that are not finite.
    """
    return draw_in_chunks(paint_flow, native, flow_frame(image_size))


def paint_flow(native: Tensor, frame: Frame) -> Tensor:
    """As :func:`draw_flow`, as a canvas in [0, 1] with row 0 at the *bottom*."""
    size = frame.image_size
    canvas = torch.ones(len(native), 3, size, size, device=native.device)
    left, right, bottom, top = frame.box
    columns = torch.arange(left, right, device=native.device, dtype=native.dtype)
    rows = torch.arange(bottom, top, device=native.device, dtype=native.dtype)
    window = canvas[:, :, bottom:top, left:right]
    ball, height, deep, reach = native.unbind(1)
    x, y, outline = frame.x, frame.y, OUTLINE_POINTS / 2 * frame.point
    stroke = STROKE_POINTS * frame.point

    def flat(value: float) -> Tensor:
        return torch.full_like(ball, value)

    sides = (flat(x(CUP[0]) - outline), flat(x(CUP[1]) + outline))
    surface = y(WATER_BASE + height) + outline
    water = rectangle_coverage(*sides, flat(y(0.0) - outline), surface, columns, rows)
    paint(window, water, COLOURS["lightskyblue"])
    zero, rim = flat(0.0), flat(RIM)
    for wall, low, high in ((CUP[0], zero, rim), (CUP[1], zero, deep), (CUP[1], deep + GAP, rim)):
        across = (flat(x(wall) - stroke / 2), flat(x(wall) + stroke / 2))
        paint(window, rectangle_coverage(*across, y(low), y(high), columns, rows), COLOURS["black"])
    radii = (ball * frame.unit_x + outline, ball * frame.unit_y + outline)
    disc = ellipse_coverage(flat(x(BALL_X)), y(ball + BALL_BASE), *radii, columns, rows)
    paint(window, disc, COLOURS["firebrick"])
    _paint_jet(canvas, frame, deep, reach, stroke)
    ends = (flat(float(left)), flat(float(right)))
    low, high = flat(y(GROUND) - stroke / 2), flat(y(GROUND) + stroke / 2)
    paint(window, rectangle_coverage(*ends, low, high, columns, rows), COLOURS["black"])
    return canvas


def _paint_jet(canvas: Tensor, frame: Frame, deep: Tensor, reach: Tensor, stroke: float) -> None:
    """The jet, in the part of the canvas where it can be."""
    left, right = frame.pixels(frame.x(CUP[1]) - stroke, frame.image_size, "x")
    bottom, top = frame.pixels(0.0, float(frame.y(deep.max())) + stroke, "y")
    columns = torch.arange(left, right, device=canvas.device, dtype=canvas.dtype)
    rows = torch.arange(bottom, top, device=canvas.device, dtype=canvas.dtype)
    start = (torch.full_like(deep, frame.x(CUP[1])), frame.y(deep))
    extent = (reach * frame.unit_x, (deep - JET_END) * frame.unit_y)
    # A jet of no extent has no direction; a hundredth of a pixel is one.
    across, drop = (side.clamp(min=0.01) for side in extent)
    jet = jet_coverage(start, across, drop, stroke, columns, rows)
    paint(canvas[:, :, bottom:top, left:right], jet, COLOURS["lightskyblue"])


NEWTON_STEPS = 5
POINTS = 50  # numpy's linspace, with which the published script samples the heights


def jet_coverage(
    start: tuple[Tensor, Tensor],
    reach: Tensor,
    drop: Tensor,
    width: float,
    columns: Tensor,
    rows: Tensor,
) -> Tensor:
    """Coverage of a stroke from ``start`` along x = reach √(y / drop), ``drop`` pixels down.

    In the units of the parabola, u = √v with v the height fallen, the polyline has its corners at
    evenly spaced v. Every pixel belongs to the segment nearest to it, whose exact half-planes are
    drawn, so only the pixels at corners are approximate. Both ends project by half the width.

    Args:
        start: x, y of the jet's start, in pixels, ``[B]`` each.
        reach, drop: horizontal and vertical extent in pixels, ``[B]``, positive.
        width: of the stroke, in pixels.
        columns, rows: pixels, see :mod:`data_modules.scenes.drawing`.
    """
    reach, drop = reach[:, None, None], drop[:, None, None]
    right = (columns + 0.5 - start[0][:, None])[:, None, :]
    fallen = (start[1][:, None] - rows - 0.5)[:, :, None]
    last = POINTS - 2
    first = (_nearest(right, fallen, reach, drop).square() * (last + 1)).floor().clamp(max=last)
    v, next_v = first / (last + 1), (first + 1) / (last + 1)
    # Along the segment, in pixels to the right and down.
    along_x, along_y = (next_v.sqrt() - v.sqrt()) * reach, drop / (last + 1)
    length = torch.hypot(along_x, along_y)
    along_x, along_y = along_x / length, along_y / length
    dx, dy = right - v.sqrt() * reach, fallen - v * drop
    aside, forward = dx * along_y - dy * along_x, dx * along_x + dy * along_y
    strip = half_plane_coverage(aside + width / 2, along_y, along_x)
    strip = strip - half_plane_coverage(aside - width / 2, along_y, along_x)
    begin = torch.where(first == 0, forward + width / 2, 1.0)
    beyond = torch.where(first == last, forward - length - width / 2, -1.0)
    caps = half_plane_coverage(begin, along_x, along_y)
    return strip * (caps - half_plane_coverage(beyond, along_x, along_y))


def _nearest(right: Tensor, fallen: Tensor, reach: Tensor, drop: Tensor) -> Tensor:
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
