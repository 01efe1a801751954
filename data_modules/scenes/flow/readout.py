"""The ruler: measure the flow's four factors in any image, by arithmetic.

Wherever it looks only two colours can be, so each pixel is a mixture of these two.

- ball: the area of firebrick in the water, inverted by a monotone calibration because the ground
  covers a little of it;
- height: the sky blue between the walls and above the tallest ball, summed along y;
- hole and flow: first guesses (where the right wall lacks black; where each row's sky blue right of
  the wall lies), then a least-squares fit of hole height and jet's reach, by Gauss-Newton steps
  against the renderer itself. On true renders that fit ends at the truth.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from data_modules.scenes.drawing import IMAGE_SIZES, Frame
from data_modules.scenes.flow.picture import (
    BALL_X,
    COLOURS,
    CUP,
    GROUND,
    JET_END,
    WATER_BASE,
    draw_flow,
    flow_frame,
)
from data_modules.scenes.unmixing import THRESHOLD, dilate, displayed, read_in_chunks, share

CALIBRATION_POINTS = 513
BALL_RANGE = (0.05, 1.35)
BALL_SPAN, BALL_TOP = 1.6, 3.5  # how far to its sides, and to which height, the ball can reach
HOLE_RANGE = (1.0, 5.5)  # heights at which the ruler looks for the hole
REACH_RANGE = (0.3, 9.0)
FIT_STEPS = 8
DIFFERENCE = 0.02  # of the fit's finite differences, in the picture's units
STRIDE = 0.4  # longest step of the fit, a pixel at 64 pixels


def read_flow(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure ``[B, 3, S, S]`` images in [-1, 1].

    Returns:
        Ball radius, water height, hole height and jet's reach in the picture's units, float32
        ``[B, 4]``, and ``[B, 4]`` bool, whether there was anything to measure.

    Raises:
        ValueError: when the images are not square RGB of a size that the scene draws.
    """
    return read_in_chunks(_read_chunk, images)


def _read_chunk(images: Tensor) -> tuple[Tensor, Tensor]:
    frame = flow_frame(images.shape[-1])
    # Row 0 at the bottom, like the frame.
    shown = displayed(images).flip(2)
    ball, ball_found = _read_ball(shown, frame)
    height, water_found = _read_height(shown, frame)
    deep, hole_found = _guess_hole(shown, frame)
    reach, jet_found = _guess_reach(shown, deep, frame)
    jet_found &= hole_found
    guess = torch.stack([ball, height, deep, reach], dim=1)
    fitted = _fit_jet(shown, guess, frame)
    native = torch.where(jet_found[:, None], fitted, guess)
    return native, torch.stack([ball_found, water_found, hole_found, jet_found], dim=1)


# --- ball and water ---


def _ball_area(shown: Tensor, frame: Frame) -> Tensor:
    """Firebrick in the water above the ground, in pixels."""
    left, right = frame.pixels(frame.x(BALL_X - BALL_SPAN), frame.x(BALL_X + BALL_SPAN), "x")
    bottom, top = frame.pixels(frame.y(GROUND) + frame.point + 1, frame.y(BALL_TOP), "y")
    part = share(shown[:, :, bottom:top, left:right], COLOURS["firebrick"], COLOURS["lightskyblue"])
    strong = part > THRESHOLD
    return (part.clamp(min=0) * dilate(dilate(strong).mT).mT).sum((1, 2))


def _read_ball(shown: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    area = _ball_area(shown, frame)
    areas, balls = (table.to(area.device) for table in _ball_calibration(frame.image_size))
    upper = torch.searchsorted(areas, area.contiguous()).clamp(1, len(areas) - 1)
    lower = upper - 1
    slope = (balls[upper] - balls[lower]) / (areas[upper] - areas[lower])
    return balls[lower] + slope * (area - areas[lower]), area > 0


@lru_cache(maxsize=len(IMAGE_SIZES))
def _ball_calibration(image_size: int) -> tuple[Tensor, Tensor]:
    """Area of the drawn ball against its radius, both ``[N]``, by ascending area."""
    balls = torch.linspace(*BALL_RANGE, CALIBRATION_POINTS)
    # Cached tensors must serve autograd too, wherever the first read happened.
    with torch.inference_mode(False), torch.no_grad():
        native = torch.stack([balls, *torch.full((3, len(balls)), 3.0)], dim=1)
        areas = _ball_area(draw_flow(native, image_size).flip(2), flow_frame(image_size))
    # The area must rise strictly for an inverse.
    rising = areas > torch.cat([areas.new_tensor([-1.0]), areas.cummax(0).values[:-1]])
    return areas[rising], balls[rising]


def _read_height(shown: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    margin = 2 * frame.point + 1
    left, right = frame.pixels(frame.x(CUP[0]) + margin, frame.x(CUP[1]) - margin, "x")
    bottom = frame.pixels(frame.y(BALL_TOP), frame.y(BALL_TOP), "y")[0]
    part = shown[:, :, bottom : frame.box[3], left:right]
    profile = share(part, COLOURS["lightskyblue"], COLOURS["white"]).mean(2)
    strong = profile > THRESHOLD
    total = (profile.clamp(min=0) * dilate(strong)).sum(1)
    surface = bottom + total - frame.point / 2  # without the outline
    return (surface - frame.y(0.0)) / frame.unit_y - WATER_BASE, strong.any(1)


# --- hole and jet ---


def _guess_hole(shown: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Where the right wall lacks black: about the hole's lower edge, as the jet covers as much of
    the wall below it as the hole leaves out above."""
    wall, half = frame.x(CUP[1]), frame.point
    left, right = frame.pixels(wall - half, wall + half, "x")
    bottom, top = (frame.pixels(frame.y(y), frame.y(y), "y")[0] for y in HOLE_RANGE)
    # Of all colours only black has no blue, so the channel tells it from water and white alike.
    dark = (1 - shown[:, 2, bottom:top, left:right]) / 2
    lacking = 1 - dark.sum(2) / (2 * half)
    kept = lacking.clamp(min=0) * (lacking > THRESHOLD)
    centres = torch.arange(bottom, top, device=shown.device) + 0.5
    y = (kept * centres).sum(1) / kept.sum(1).clamp(min=1e-6)
    return ((y - frame.y(0.0)) / frame.unit_y).clamp(*HOLE_RANGE), (kept > 0).any(1)


def _guess_reach(shown: Tensor, deep: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Least squares of x = reach √fallen over the sky blue right of the wall."""
    left = frame.pixels(frame.x(CUP[1]) + 2 * frame.point, frame.image_size, "x")[0]
    bottom, top = (frame.pixels(frame.y(y), frame.y(y), "y")[0] for y in (1.0, HOLE_RANGE[1]))
    part = shown[:, :, bottom:top, left : frame.box[1]]
    blue = share(part, COLOURS["lightskyblue"], COLOURS["white"])
    weight = blue.clamp(min=0) * (blue > THRESHOLD)
    columns, rows = (
        torch.arange(*span, device=shown.device) + 0.5
        for span in ((left, frame.box[1]), (bottom, top))
    )
    x, y = (columns - frame.x(CUP[1])) / frame.unit_x, (rows - frame.y(0.0)) / frame.unit_y
    fallen = ((deep[:, None] - y) / (deep[:, None] - JET_END)).clamp(min=0).sqrt()
    across = torch.einsum("bhw,w,bh->b", weight, x, fallen)
    along = torch.einsum("bhw,bh,bh->b", weight, fallen, fallen)
    reach = across / along.clamp(min=1e-6)
    return reach.clamp(*REACH_RANGE), along > 1e-3


def _fit_jet(shown: Tensor, guess: Tensor, frame: Frame) -> Tensor:
    """Gauss-Newton on hole height and reach, ``guess`` ``[B, 4]`` with both made better."""
    left, right = frame.pixels(frame.x(CUP[1]) - 2 * frame.point, frame.image_size, "x")
    bottom, top = frame.pixels(frame.y(JET_END), frame.y(HOLE_RANGE[1]) + frame.point, "y")
    seen = shown[:, :, bottom:top, left:right].flatten(1)

    def drawn(native: Tensor) -> Tensor:
        image = draw_flow(native, frame.image_size).flip(2)
        return image[:, :, bottom:top, left:right].flatten(1)

    native = guess
    for _ in range(FIT_STEPS):
        now = drawn(native)
        columns = []
        for k in (2, 3):
            shifted = native.clone()
            shifted[:, k] += DIFFERENCE
            columns.append((drawn(shifted) - now) / DIFFERENCE)
        jacobian = torch.stack(columns, dim=2)
        residual = (seen - now)[..., None]
        gram = jacobian.mT @ jacobian + 1e-3 * torch.eye(2, device=shown.device)
        step = torch.linalg.solve(gram, jacobian.mT @ residual)[..., 0].clamp(-STRIDE, STRIDE)
        deep = (native[:, 2] + step[:, 0]).clamp(*HOLE_RANGE)
        reach = (native[:, 3] + step[:, 1]).clamp(*REACH_RANGE)
        native = torch.stack([*native.unbind(1)[:2], deep, reach], dim=1)
    return native
