r"""The Flow scene: a ball raises the water in a cup, the water pushes a jet through a hole.

Native units: ``ball_size`` the ball's radius and ``water_height`` h in the picture's units,
``hole`` in thirds of them (deep = hole / 3), ``water_flow`` the label √(2 · 0.98 · h · (deep − ½)),
how far the jet would reach. The graph's ranges are those of the published grid.

In the published loops raw, from which h = ball³ + raw / 10, is the exogenous noise of the height.
The jet itself is drawn with a gravity of 0.98 + e, e = 0.01 · max(|n|, 1), n ~ N(0, 1): noise of
the image that the factors do not hold. The published draws of n are not known; ours are seeded.

The picture follows the script that made the published images, CausalVAE's ``causal_data/flow.py``
(Yang et al., "CausalVAE", CVPR 2021), drawn by matplotlib on a 1×1 inch figure. As with the
pendulum, patches named by colour alone have a 1 pt outline, and artists are clipped to the axes
box. Walls, water and ground lie on whole pixels in the styles in which matplotlib snaps. Lines lie
over patches: jet and ground cover cup, water and ball.

The ruler measures where only two colours can be, so each pixel is a mixture of these two:

- ball: the area of firebrick in the water, inverted by a monotone calibration because the ground
  covers a little of it;
- height: the sky blue between the walls and above the tallest ball, summed along y;
- hole and flow: first guesses, then a least-squares fit of hole height and jet's reach, by
  Gauss-Newton steps against the renderer itself. On true renders that fit ends at the truth.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor

from data_modules.scenes.drawing import Frame, draw_in_chunks
from data_modules.scenes.style import STYLES, Style, StyledScene, draw_in_style
from data_modules.scenes.unmixing import (
    THRESHOLD,
    cached,
    displayed,
    interpolated,
    read_in_chunks,
    share,
    strong_parts,
)
from diffcf.causal import CausalGraph, Factor

GRAVITY = 0.98
LEAST_NOISE = 0.01  # e of two pictures in three, and what `render` draws without `noise`
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


def flow_frame(image_size: int, snapped: bool = False) -> Frame:
    """The axes of a flow picture: 0…20 both ways."""
    return Frame(image_size, (0.0, 20.0), (0.0, 20.0), snapped)


def draw_flow(native: Tensor, image_size: int, style: Style = STYLES["subpixel"]) -> Tensor:
    """Draw ball radius, water height, hole height, jet's reach ``[B, 4]``, all in the picture's
    units, as float32 ``[B, 3, S, S]`` in [-1, 1]. ValueError when they are not finite."""

    def at(size: int) -> Tensor:
        return draw_in_chunks(_paint_flow, native, flow_frame(size, style.snapped))

    return draw_in_style(at, style, image_size)


def _paint_flow(canvas: Tensor, native: Tensor, frame: Frame) -> None:
    window = frame.window(canvas, (0, frame.image_size), (0, frame.image_size))
    ball, height, deep, reach = native.unbind(1)
    line, stroke = OUTLINE_POINTS * frame.point, STROKE_POINTS * frame.point
    x, y, outline = frame.x, frame.y, line / 2

    def flat(value: float) -> Tensor:
        return torch.full_like(ball, value)

    left, right = (frame.on_columns(x(side), line) for side in CUP)
    base = flat(frame.on_rows(y(0.0), line) - outline)
    surface = frame.on_rows(y(WATER_BASE + height), line) + outline
    water = window.rectangle(flat(left - outline), flat(right + outline), base, surface)
    window.paint(water, COLOURS["lightskyblue"])
    zero, rim = flat(0.0), flat(RIM)
    for wall, low, high in ((CUP[0], zero, rim), (CUP[1], zero, deep), (CUP[1], deep + GAP, rim)):
        middle = frame.on_columns(x(wall), stroke)
        bottom, top = (frame.on_rows(y(end), stroke) for end in (low, high))
        sides = flat(middle - stroke / 2), flat(middle + stroke / 2)
        window.paint(window.rectangle(*sides, bottom, top), COLOURS["black"])
    radii = (ball * frame.unit_x + outline, ball * frame.unit_y + outline)
    disc = window.ellipse(flat(x(BALL_X)), y(ball + BALL_BASE), *radii)
    window.paint(disc, COLOURS["firebrick"])
    _paint_jet(canvas, frame, deep, reach, stroke)
    first, last = (flat(float(side)) for side in frame.box[:2])
    middle = frame.on_rows(y(GROUND), stroke)
    edges = flat(middle - stroke / 2), flat(middle + stroke / 2)
    window.paint(window.rectangle(first, last, *edges), COLOURS["black"])


def _paint_jet(canvas: Tensor, frame: Frame, deep: Tensor, reach: Tensor, stroke: float) -> None:
    wall, hole = frame.x(CUP[1]), frame.y(deep)
    across, down = (wall - stroke, frame.image_size), (0.0, float(hole.max()) + stroke)
    window = frame.window(canvas, across, down)
    # A jet of no extent has no direction; a hundredth of a pixel is one.
    width = (reach * frame.unit_x).clamp(min=0.01)
    drop = ((deep - JET_END) * frame.unit_y).clamp(min=0.01)
    jet = window.parabola((torch.full_like(deep, wall), hole), width, drop, stroke)
    window.paint(jet, COLOURS["lightskyblue"])


# --- ruler ---

CALIBRATION_POINTS = 513
BALL_RANGE = (0.05, 1.35)
BALL_SPAN, BALL_TOP = 1.6, 3.5  # how far to its sides, and to which height, the ball can reach
HOLE_RANGE = (1.0, 5.5)  # heights at which the ruler looks for the hole
REACH_RANGE = (0.3, 9.0)
FIT_STEPS = 8
DIFFERENCE = 0.02  # of the fit's finite differences, in the picture's units
STRIDE = 0.4  # longest step of the fit, a pixel at 64 pixels


def read_flow(images: Tensor, style: Style = STYLES["subpixel"]) -> Tensor:
    """Ball radius, water height, hole height and jet's reach in the picture's units, float32
    ``[B, 4]``, of ``[B, 3, S, S]`` images in [-1, 1]; NaN where there is nothing to measure."""
    frame = flow_frame(images.shape[-1])
    shown = displayed(images).flip(2)  # row 0 at the bottom, like the frame
    area = _ball_area(shown, frame)
    ball = interpolated(*_ball_calibration(frame.image_size, style), area)
    height, water_found = _read_height(shown, frame)
    deep, hole_found = _guess_hole(shown, frame)
    reach, jet_found = _guess_reach(shown, deep, frame)
    jet_found &= hole_found
    guess = torch.stack([ball, height, deep, reach], dim=1)
    native = torch.where(jet_found[:, None], _fit_jet(shown, guess, frame, style), guess)
    found = torch.stack([area > 0, water_found, hole_found, jet_found], dim=1)
    return torch.where(found, native, torch.nan)


def _ball_area(shown: Tensor, frame: Frame) -> Tensor:
    """Firebrick in the water above the ground, in pixels."""
    across = (frame.x(BALL_X - BALL_SPAN), frame.x(BALL_X + BALL_SPAN))
    window = frame.window(shown, across, (frame.y(GROUND) + frame.point + 1, frame.y(BALL_TOP)))
    red = share(window.pixels, COLOURS["firebrick"], COLOURS["lightskyblue"])
    return strong_parts(red).sum((1, 2))


@cached
def _ball_calibration(image_size: int, style: Style) -> tuple[Tensor, Tensor]:
    """Area of the drawn ball and its radius, both ``[N]``, by ascending area."""
    balls = torch.linspace(*BALL_RANGE, CALIBRATION_POINTS)
    native = torch.stack([balls, *torch.full((3, len(balls)), 3.0)], dim=1)
    areas = _ball_area(draw_flow(native, image_size, style).flip(2), flow_frame(image_size))
    # The area must rise strictly for an inverse.
    rising = areas > torch.cat([areas.new_tensor([-1.0]), areas.cummax(0).values[:-1]])
    return areas[rising], balls[rising]


def _read_height(shown: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Height of the water ``[B]``, and whether there is any."""
    margin = 2 * frame.point + 1
    across = (frame.x(CUP[0]) + margin, frame.x(CUP[1]) - margin)
    window = frame.window(shown, across, (frame.y(BALL_TOP), frame.image_size))
    profile = share(window.pixels, COLOURS["lightskyblue"], COLOURS["white"]).mean(2)
    total = strong_parts(profile).sum(1)
    surface = window.rows[0] + total - frame.point / 2  # without the outline
    return (surface - frame.y(0.0)) / frame.unit_y - WATER_BASE, total > 0


def _guess_hole(shown: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Where the right wall lacks black: about the hole's lower edge, as the jet covers as much of
    the wall below it as the hole leaves out above."""
    wall, half = frame.x(CUP[1]), frame.point
    low, high = map(frame.y, HOLE_RANGE)
    window = frame.window(shown, (wall - half, wall + half), (low, high - 1))
    # Of all colours only black has no blue, so its channel separates it from water and white.
    lacking = 1 - ((1 - window.pixels[:, 2]) / 2).sum(2) / (2 * half)
    kept = lacking.clamp(min=0) * (lacking > THRESHOLD)
    y = (kept * (window.rows + 0.5)).sum(1) / kept.sum(1).clamp(min=1e-6)
    return ((y - frame.y(0.0)) / frame.unit_y).clamp(*HOLE_RANGE), (kept > 0).any(1)


def _guess_reach(shown: Tensor, deep: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Least squares of x = reach √fallen over the sky blue right of the wall."""
    low, high = map(frame.y, HOLE_RANGE)
    wall = frame.x(CUP[1])
    window = frame.window(shown, (wall + 2 * frame.point, frame.image_size), (low, high - 1))
    blue = share(window.pixels, COLOURS["lightskyblue"], COLOURS["white"])
    weight = blue.clamp(min=0) * (blue > THRESHOLD)
    x = (window.columns + 0.5 - wall) / frame.unit_x
    y = (window.rows + 0.5 - frame.y(0.0)) / frame.unit_y
    fallen = ((deep[:, None] - y) / (deep[:, None] - JET_END)).clamp(min=0).sqrt()
    across = torch.einsum("bhw,w,bh->b", weight, x, fallen)
    along = torch.einsum("bhw,bh,bh->b", weight, fallen, fallen)
    return (across / along.clamp(min=1e-6)).clamp(*REACH_RANGE), along > 1e-3


def _fit_jet(shown: Tensor, guess: Tensor, frame: Frame, style: Style) -> Tensor:
    """Gauss-Newton on hole height and reach, ``guess`` ``[B, 4]`` with both made better."""
    # A wall on whole pixels jumps with the hole's height, where the jet moves smoothly.
    beside = 2 * frame.point + 1 if style.snapped else -2 * frame.point
    across = (frame.x(CUP[1]) + beside, frame.image_size)
    down = (frame.y(JET_END), frame.y(HOLE_RANGE[1]) + frame.point)

    def part(images: Tensor) -> Tensor:
        return frame.window(images, across, down).pixels.flatten(1)

    def rendered(native: Tensor) -> Tensor:
        return part(draw_flow(native, frame.image_size, style).flip(2))

    native, lower, upper = guess, *guess.new_tensor([HOLE_RANGE, REACH_RANGE]).T
    steps = DIFFERENCE * torch.eye(4, device=guess.device)[2:]
    for _ in range(FIT_STEPS):
        now = rendered(native)
        slopes = [(rendered(native + step) - now) / DIFFERENCE for step in steps]
        jacobian, residual = torch.stack(slopes, dim=2), (part(shown) - now)[..., None]
        gram = jacobian.mT @ jacobian + 1e-3 * torch.eye(2, device=shown.device)
        step = torch.linalg.solve(gram, jacobian.mT @ residual)[..., 0].clamp(-STRIDE, STRIDE)
        native = torch.cat([native[:, :2], (native[:, 2:] + step).clamp(lower, upper)], dim=1)
    return native


def true_flow(height: Tensor, hole: Tensor) -> Tensor:
    """The mechanism of native ``water_flow``; no water, or a hole on the ground, gives 0."""
    return (2 * GRAVITY * height * (hole / 3 - JET_END)).clamp(min=0).sqrt()


def jet_reach(flow: Tensor, noise: Tensor | float) -> Tensor:
    """How far, in the picture's units, the jet of native ``flow`` reaches under jet noise e."""
    return flow * ((GRAVITY + torch.as_tensor(noise)) / GRAVITY).sqrt()


def published_grid() -> Tensor:
    """Native factors of the 8,100 published images, float64 ``[8100, 4]``, in published order."""
    loops = [torch.arange(*ends, dtype=torch.float64) for ends in ((5, 35), (10, 40), (6, 15))]
    radius, raw, hole = torch.cartesian_prod(*loops).unbind(1)
    ball = radius / 30
    height = ball**3 + raw / 10
    return torch.stack([ball, height, hole, true_flow(height, hole)], dim=1)


class FlowScene(StyledScene):
    """Flow of CausalVAE (Yang et al., CVPR 2021), with exact counterfactuals.

    ``do(ball_size)`` keeps raw, and so moves the height, and with it the flow. A flow that was set
    before keeps its difference from the mechanism, as Pendulum's shadow does.

    Args:
        style: see :class:`StyledScene`.
    """

    noise_names = ("jet_gravity",)
    image_sizes = (64, 96, 128)  # at 32 the smallest balls vanish into the ground

    def __init__(self, style: str = "subpixel") -> None:
        super().__init__(style)
        grid, names = published_grid(), ("ball_size", "water_height", "hole", "water_flow")
        bounds = zip(names, grid.amin(0).tolist(), grid.amax(0).tolist(), strict=True)
        factors = [Factor(name, "continuous", low, high) for name, low, high in bounds]
        ball, height, hole, flow = names
        self.graph = CausalGraph(factors, [(ball, height), (height, flow), (hole, flow)])

    def published_grid(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled factors ``[8100, 4]`` of the published images, the ``[8100]`` bool test mask
        (every fifth image, 1,620 of them), and jet noise e ``[8100, 1]`` drawn from ``seed``."""
        normal = torch.randn(8100, 1, generator=Generator().manual_seed(seed))
        noise = LEAST_NOISE * normal.abs().clamp(min=1)
        is_test = torch.arange(8100) % 5 == 4
        return self.graph.to_scaled(published_grid()).float(), is_test, noise

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Scene.counterfactual`."""
        acted = torch.where(mask, values, factors)
        set_ball, set_height, set_hole, set_flow = mask.unbind(1)
        old, new = self.graph.to_native(factors), self.graph.to_native(acted)
        moves = set_ball & ~set_height
        height = torch.where(moves, old[:, 1] - old[:, 0] ** 3 + new[:, 0] ** 3, new[:, 1])
        residual = old[:, 3] - true_flow(old[:, 1], old[:, 2])
        flow = (true_flow(height, new[:, 2]) + residual).clamp(min=0)
        scaled = self.graph.to_scaled(torch.stack([new[:, 0], height, new[:, 2], flow], dim=1))
        flows = (set_ball | set_height | set_hole) & ~set_flow
        never = torch.zeros_like(moves)
        return torch.where(torch.stack([never, moves, never, flows], dim=1), scaled, acted)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is 64, 96 or 128, else ValueError."""
        ball, height, hole, flow = self.graph.to_native(factors.float()).unbind(1)
        e = LEAST_NOISE if noise is None else noise[:, 0].to(flow)
        picture = torch.stack([ball, height, hole / 3, jet_reach(flow, e)], dim=1)
        return draw_flow(picture, self.checked_size(image_size), self.drawing)

    def measured(self, images: Tensor) -> Tensor:
        """Jet noise and flow look the same, so the least noise is assumed:
        flows of pictures with more read up to 1% too large, .0007 of range on average."""
        read = partial(read_flow, style=self.drawing)
        ball, height, deep, reach = read_in_chunks(read, images).unbind(1)
        flow = reach / jet_reach(torch.ones_like(reach), LEAST_NOISE)
        native = torch.stack([ball, height, 3 * deep, flow], dim=1)
        return self.graph.to_scaled(native)

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: every factor within the published range, give or take 1e-4."""
        return ((factors >= -1e-4) & (factors <= 1 + 1e-4)).all(1)
