"""The Pendulum scene: a hanging ball, a sun, and the shadow that the two cast.

Native units: ``angle`` θ and ``light`` φ in radians (θ = iπ/200 for i = −40…43, φ = jπ/200 for
j = 60…147), ``shadow_length`` and ``shadow_position`` in the picture's units (x runs 0…20). The
graph's ranges are those of the published grid.

The picture follows the script that made the published images, CausalVAE's
``causal_data/pendulum.py`` (Yang et al., "CausalVAE", CVPR 2021), drawn by matplotlib on a 1×1 inch
figure. Of matplotlib's habits two are always kept: a disc named by colour alone has a 1 pt outline
of that colour, so it is half a point larger all round, and artists are clipped to the axes box
rounded to whole pixels. The third depends on the style: matplotlib snaps horizontal and vertical
strokes to whole pixels, which quantises the shadow; ``subpixel`` draws it as after
``set_snap(False)``.
"""

from __future__ import annotations

from functools import partial
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.drawing import Frame, Window, draw_in_chunks
from data_modules.scenes.style import STYLES, Style, StyledScene, draw_in_style
from data_modules.scenes.unmixing import (
    cached,
    centroid,
    interpolated,
    read_in_chunks,
    strong_parts,
    unmix,
)
from diffcf.causal import CausalGraph, Factor

COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "orange": (1.0, 165 / 255, 0.0),
    "firebrick": (178 / 255, 34 / 255, 34 / 255),
    "black": (0.0, 0.0, 0.0),
}
PIVOT = (10.0, 10.5)
ROD_LENGTH = 8.0
TIP = 9.5  # from the pivot to the ball's far side
BALL_RADIUS = 1.5
SUN_RADIUS = 3.0
SUN_HEIGHT = 20.5
GROUND = -0.5
MIN_LENGTH = 3.0
STROKE_POINTS = 3.0
OUTLINE_POINTS = 1.0
STRAIGHT = 1e-4  # pixels aside, below which matplotlib takes a line for vertical


# --- mechanism ---


def project(x: Tensor | float, y: Tensor | float, light: Tensor, base: float) -> Tensor:
    """Where the ray through (x, y) at elevation ``light`` (radians) meets the height ``base``."""
    return x + (base - y) * light.cos() / light.sin()


def ball_centre(angle: Tensor, reach: float = ROD_LENGTH) -> tuple[Tensor, Tensor]:
    """The point ``reach`` along a pendulum that hangs at ``angle`` (radians) from the vertical."""
    return PIVOT[0] + reach * angle.sin(), PIVOT[1] - reach * angle.cos()


def sun_x(light: Tensor) -> Tensor:
    """The sun's x for a light of elevation ``light`` (radians)."""
    return project(*PIVOT, light, SUN_HEIGHT)


def mechanism(angle: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
    """The published shadow of native ``angle`` and ``light`` ``[B]``: its length and position."""
    pivot = project(*PIVOT, light, GROUND)
    tip = project(*ball_centre(angle, TIP), light, GROUND)
    return (pivot - tip).abs().clamp(min=MIN_LENGTH), (pivot + tip) / 2


def published_grid() -> Tensor:
    """Native factors of the 7,308 published images, float64 ``[7308, 4]``, in published order."""
    angles = torch.arange(-40, 44, dtype=torch.float64) * (pi / 200)
    steps = torch.arange(60, 148, dtype=torch.float64)
    lights = steps[steps != 100] * (pi / 200)
    angle, light = torch.cartesian_prod(angles, lights).unbind(1)
    return torch.stack([angle, light, *mechanism(angle, light)], dim=1)


# --- picture ---


def pendulum_frame(image_size: int, snapped: bool = False) -> Frame:
    """The axes of a pendulum picture: x 0…20, y −1…21."""
    return Frame(image_size, (0.0, 20.0), (-1.0, 21.0), snapped)


def draw(native: Tensor, image_size: int, style: Style = STYLES["subpixel"]) -> Tensor:
    """Draw native angle, light, length, position ``[B, 4]`` as float32 ``[B, 3, S, S]`` in [-1, 1].
    ValueError when they are not finite."""

    def at(size: int) -> Tensor:
        return draw_in_chunks(_paint_pendulum, native, pendulum_frame(size, style.snapped))

    return draw_in_style(at, style, image_size)


def _paint_pendulum(canvas: Tensor, native: Tensor, frame: Frame) -> None:
    angle, light, length, position = native.unbind(1)
    x, y = frame.x, frame.y
    outline, stroke = OUTLINE_POINTS / 2 * frame.point, STROKE_POINTS * frame.point
    ball_x, ball_y = (axis(c) for axis, c in zip((x, y), ball_centre(angle), strict=True))
    pivot_x, pivot_y = torch.full_like(ball_x, x(PIVOT[0])), torch.full_like(ball_y, y(PIVOT[1]))

    rod = _window(canvas, frame, (pivot_x, ball_x), (pivot_y, ball_y), stroke)
    ends = _rod_ends(frame, (pivot_x, pivot_y), (ball_x, ball_y), stroke)
    rod.paint(rod.segment(*ends, stroke), COLOURS["black"])
    for centre_x, centre_y, radius, colour in (
        (ball_x, ball_y, BALL_RADIUS, COLOURS["firebrick"]),
        (x(sun_x(light)), torch.full_like(light, y(SUN_HEIGHT)), SUN_RADIUS, COLOURS["orange"]),
    ):
        radius_x, radius_y = radius * frame.unit_x + outline, radius * frame.unit_y + outline
        disc = _window(canvas, frame, (centre_x,), (centre_y,), max(radius_x, radius_y))
        radii = (torch.full_like(centre_x, r) for r in (radius_x, radius_y))
        disc.paint(disc.ellipse(centre_x, centre_y, *radii), colour)
    left, right = (
        frame.on_columns(x(end), stroke) for end in (position - length / 2, position + length / 2)
    )
    bottom, top = (torch.full_like(left, edge) for edge in _shadow_edges(frame))
    shadow = _window(canvas, frame, (left, right), (bottom, top), 1.0)
    shadow.paint(shadow.rectangle(left, right, bottom, top), COLOURS["black"])


def _window(
    canvas: Tensor, frame: Frame, xs: tuple[Tensor, ...], ys: tuple[Tensor, ...], margin: float
) -> Window:
    """The part of the canvas within ``margin`` of any of the points."""
    low, high = (
        (float(ends.min()) - margin, float(ends.max()) + margin)
        for ends in (torch.stack(xs), torch.stack(ys))
    )
    return frame.window(canvas, low, high)


def _rod_ends(
    frame: Frame, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor], stroke: float
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The rod's ends ``[B]`` in pixels; one that hangs straight down is snapped."""
    straight = (end[0] - start[0]).abs() < STRAIGHT

    def moved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        on_x, on_y = frame.on_columns(x, stroke), frame.on_rows(y, stroke)
        return torch.where(straight, on_x, x), torch.where(straight, on_y, y)

    return moved(*start), moved(*end)


def _shadow_edges(frame: Frame) -> tuple[float, float]:
    """Lower and upper edge of the shadow's stroke, in pixels, before clipping."""
    stroke = STROKE_POINTS * frame.point
    middle = frame.on_rows(frame.y(GROUND), stroke)
    return middle - stroke / 2, middle + stroke / 2


# --- ruler ---

CALIBRATION_POINTS = 1025
# Lights a little outside the published 60…147 (in π/200) still have a calibrated sun.
CALIBRATION_RANGE = (torch.pi * 56 / 200, torch.pi * 151 / 200)


def _read_native(images: Tensor, style: Style) -> Tensor:
    """Native angle, light (radians), length and position, float32 ``[B, 4]``, of ``[B, 3, S, S]``
    images in [-1, 1]; NaN where there is nothing to measure."""
    frame = pendulum_frame(images.shape[-1])
    weights = unmix(images, COLOURS)
    x, y, ball_found = centroid(weights["firebrick"])
    across, below = (x - frame.x(PIVOT[0])) / frame.unit_x, (frame.y(PIVOT[1]) - y) / frame.unit_y
    angle = torch.atan2(across, below)
    x, _, sun_found = centroid(weights["orange"])
    light = interpolated(*_light_calibration(frame.image_size, style), x)
    length, position, shadow_found = _read_shadow(weights["black"], frame, style)
    native = torch.stack([angle, light, length, position], dim=1)
    found = torch.stack([ball_found, sun_found, shadow_found, shadow_found], dim=1)
    return torch.where(found, native, torch.nan)


@cached
def _light_calibration(image_size: int, style: Style) -> tuple[Tensor, Tensor]:
    """Centroid of the drawn sun (which the box cuts), ascending, and the light, ``[N]`` each."""
    lights = torch.linspace(*CALIBRATION_RANGE, CALIBRATION_POINTS)
    native = pad(lights[:, None], (1, 2))
    parts = [unmix(draw(some, image_size, style), COLOURS)["orange"] for some in native.split(256)]
    centroids = torch.cat([centroid(part)[0] for part in parts])
    order = centroids.argsort()
    return centroids[order], lights[order]


@cached
def _shadow_rows(image_size: int, style: Style) -> tuple[Tensor, float]:
    """The rows (from the top) that a shadow's stroke covers best, and how much of each."""
    wide = torch.tensor([[0.0, pi / 2, 12.0, PIVOT[0]]])
    black = unmix(draw(wide, image_size, style), COLOURS)["black"][0]
    frame = pendulum_frame(image_size)
    column = black[:, int(frame.x(PIVOT[0]))].clone()
    column[: -int(frame.y(0.5))] = 0  # the rod and the ball
    best = float(column.max())
    return (column > best - 1e-4).nonzero()[:, 0], best


def _read_shadow(black: Tensor, frame: Frame, style: Style) -> tuple[Tensor, Tensor, Tensor]:
    """Length and position ``[B]`` in native units, and whether found."""
    # Only the stroke's best covered rows: the darkness of its rim depends on where it lies.
    rows, cover = _shadow_rows(frame.image_size, style)
    kept = strong_parts(black[:, rows.to(black.device)].mean(1) / cover)
    total = kept.sum(1)
    centres = torch.arange(black.shape[2], device=black.device) + 0.5
    x = (kept * centres).sum(1) / total.clamp(min=1e-6)
    return total / frame.unit_x, (x - frame.x(0.0)) / frame.unit_x, total > 0


class PendulumScene(StyledScene):
    """Pendulum of CausalVAE (Yang et al., CVPR 2021), with exact counterfactuals.

    In the published data the shadow is a deterministic function f of angle and light, so its
    exogenous noise is zero there. Elsewhere (after a shadow was set by an intervention) the noise
    is additive: u = shadow − f(angle, light), for length and position alike. A predicted length is
    at least 3, as the published mechanism has it.

    Args:
        style: see :class:`StyledScene`.
    """

    def __init__(self, style: str = "subpixel") -> None:
        super().__init__(style)
        grid, names = published_grid(), ("angle", "light", "shadow_length", "shadow_position")
        bounds = zip(names, grid.amin(0).tolist(), grid.amax(0).tolist(), strict=True)
        factors = [Factor(name, "continuous", low, high) for name, low, high in bounds]
        edges = [(cause, effect) for cause in names[:2] for effect in names[2:]]
        self.graph = CausalGraph(factors, edges)

    def published_grid(self) -> tuple[Tensor, Tensor]:
        """Scaled factors ``[7308, 4]`` of the published images, and the ``[7308]`` bool test mask:
        every fourth image after the first, 1,826 of them."""
        index = torch.arange(84 * 87)
        return self.graph.to_scaled(published_grid()).float(), (index > 0) & (index % 4 == 0)

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Scene.counterfactual`."""
        acted = torch.where(mask, values, factors)
        angle, light, length, position = self.graph.to_native(factors).unbind(1)
        old_length, old_position = mechanism(angle, light)
        new_length, new_position = mechanism(*self.graph.to_native(acted).unbind(1)[:2])
        length = (length - old_length + new_length).clamp(min=MIN_LENGTH)
        position = position - old_position + new_position
        shadow = self.graph.to_scaled(torch.stack([angle, light, length, position], dim=1))
        predicted = mask[:, :2].any(1, keepdim=True) & ~mask
        predicted = predicted & torch.tensor([False, False, True, True], device=mask.device)
        return torch.where(predicted, shadow, acted)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is 32, 64, 96 or 128, else ValueError."""
        native = self.graph.to_native(factors.float())
        return draw(native, self.checked_size(image_size), self.drawing)

    def measured(self, images: Tensor) -> Tensor:
        """A missing ball, sun or shadow reads NaN in its factors."""
        return self.graph.to_scaled(
            read_in_chunks(partial(_read_native, style=self.drawing), images)
        )

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: angle and light in range, and the whole shadow inside the picture.

        The picture is the smallest of all image sizes (their clip boxes differ by a fraction of a
        pixel), x from 0 to 19.89. 1.6% of the published images are not visible in this sense.
        """
        frames = [pendulum_frame(size) for size in self.image_sizes]
        left = max((f.box[0] - f.x(0.0)) / f.unit_x for f in frames)
        right = min((f.box[1] - f.x(0.0)) / f.unit_x for f in frames)
        _, _, length, position = self.graph.to_native(factors).unbind(1)
        inside = (position - length / 2 >= left) & (position + length / 2 <= right)
        roots, slack = factors[:, :2], 1e-4
        return inside & ((roots >= -slack) & (roots <= 1 + slack)).all(1)
