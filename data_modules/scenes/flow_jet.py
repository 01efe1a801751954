"""The jet of the flow's picture: a stroke along the polyline that stands for a parabola."""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes.drawing import half_plane_coverage

__all__ = ["jet_coverage"]

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
