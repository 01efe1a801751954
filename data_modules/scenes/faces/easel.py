"""Where cartoon faces are painted: a window of the canvas, in the coordinates of each face.

Shapes are given in face units: canvas pixels at scale 1, from the middle of the face, x to the
right and y *down*, as image files have it. A shape's coverage of a pixel is a ramp one pixel wide
across its outline, ``[B, h, w]`` in [0, 1]. Numbers may be floats or ``[B, 1, 1]``, one per face.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch
from torch import Tensor

Number = float | Tensor


@dataclass(frozen=True)
class Patch:
    """Part of the canvas.

    Attributes:
        pixels: view of the canvas, ``[B, C, h, w]``.
        x, y: of the pixels' centres in face units, ``[B, 1, w]`` and ``[B, h, 1]``.
        scale: pixels in one face unit, ``[B, 1, 1]``.
    """

    pixels: Tensor
    x: Tensor
    y: Tensor
    scale: Tensor

    def paint(self, colour: Tensor, coverage: Tensor) -> None:
        """Lay ``colour`` ``[B, C]`` over the pixels in place, as opaque as ``coverage``."""
        self.pixels.lerp_(colour[:, :, None, None], coverage[:, None])

    def inside(self, distance: Tensor) -> Tensor:
        """Coverage by what lies at positive signed ``distance``, in face units."""
        return (distance * self.scale + 0.5).clamp(0, 1)

    def ellipse(self, x: Number, y: Number, across: Number, along: Number) -> Tensor:
        """Coverage of an ellipse about (x, y) with these semi-axes."""
        u, v = (self.x - x) / across, (self.y - y) / along
        # To first order the distance is (1 − q) / |∇q|; the small numbers tame its centre.
        level = (u.square() + v.square() + 1e-4).sqrt()
        slope = ((u / across).square() + (v / along).square() + 1e-7).sqrt()
        return self.inside((1 - level) * level / slope)

    def band(self, middle: Tensor, half: Number, slope: Number = 0.0) -> Tensor:
        """Coverage of a brush stroke along y = ``middle`` ``[B, 1, w]``, ``half`` to either side.

        Strokes thinner than a pixel stay right. ``slope`` is the derivative of ``middle``.
        """
        steep = torch.as_tensor(1 + torch.as_tensor(slope).square()).sqrt().to(self.y)
        offset = (self.y - middle) / steep
        return self.inside(offset + half) - self.inside(offset - half)

    def arc(self, x: Number, y: Number, reach: Number, bend: Number, half: Number) -> Tensor:
        """Coverage of a stroke that tapers to both ends: a parabola through (x, y) whose ends, at
        x ± ``reach``, lie ``bend`` higher; it is 2 ``half`` thick in the middle."""
        u = (self.x - x) / reach
        thick = half * (1 - u.square()).clamp(min=0).sqrt()
        return self.band(y - bend * u.square(), thick, -2 * bend * u.clamp(-1, 1) / reach)

    def box(self, left: float, right: float, top: float, bottom: float, radius: float) -> Tensor:
        """Coverage of a rectangle with rounded corners."""
        u = (self.x - (left + right) / 2).abs() - (right - left) / 2 + radius
        v = (self.y - (top + bottom) / 2).abs() - (bottom - top) / 2 + radius
        corner = (u.clamp(min=0).square() + v.clamp(min=0).square()).sqrt()
        return self.inside(radius - corner - torch.maximum(u, v).clamp(max=0))


class Easel:
    """A canvas with a face on it.

    Args:
        ground: ``[B, C, h, w]``, painted in place.
        columns, rows: first canvas column and row of ``ground``.
        centre: canvas coordinates ``[B, 2]`` of the middle of every face.
        scale: ``[B]``, canvas pixels in a face unit.
    """

    def __init__(
        self, ground: Tensor, columns: int, rows: int, centre: Tensor, scale: Tensor
    ) -> None:
        self.ground, self.scale = ground, scale[:, None, None]
        height, width = ground.shape[2:]
        # Pixels' centres from the middle of the face, in pixels.
        self._x = columns + 0.5 + torch.arange(width, device=ground.device) - centre[:, :1]
        self._y = rows + 0.5 + torch.arange(height, device=ground.device) - centre[:, 1:]
        self._first = (self._x[:, 0], self._y[:, 0])

    def patch(self, left: float, right: float, top: float, bottom: float) -> Patch:
        """The pixels that this rectangle (in face units) touches in any of the faces."""
        columns = self._span(left, right, 0, self.ground.shape[3])
        rows = self._span(top, bottom, 1, self.ground.shape[2])
        return Patch(
            self.ground[:, :, rows, columns],
            self._x[:, None, columns] / self.scale,
            self._y[:, rows, None] / self.scale,
            self.scale,
        )

    def _span(self, low: float, high: float, axis: int, length: int) -> slice:
        scale, first = self.scale[:, 0, 0], self._first[axis]
        start = floor(float((low * scale - first).min())) - 1
        stop = ceil(float((high * scale - first).max())) + 2
        start = min(max(start, 0), length)
        return slice(start, min(max(stop, start), length))


Rgb = tuple[float, float, float]

FREE = ("skin", "hair", "background", "clothes")
# Stops of a ramp over [0, 1], evenly spaced, of each free colour.
RAMPS: dict[str, list[Rgb]] = {
    "skin": [(0.99, 0.86, 0.76), (0.88, 0.68, 0.54), (0.58, 0.40, 0.30)],
    "hair": [(0.10, 0.09, 0.11), (0.30, 0.17, 0.10), (0.66, 0.26, 0.10), (0.93, 0.74, 0.24)],
    "background": [(0.66, 0.88, 0.74), (0.60, 0.82, 0.96), (0.77, 0.73, 0.97)],
    "clothes": [(0.84, 0.30, 0.30), (0.20, 0.28, 0.52), (0.14, 0.52, 0.50), (0.95, 0.72, 0.30)],
}
GREY: Rgb = (0.72, 0.73, 0.78)  # what old hair turns to, as far as GREYING
GREYING = 0.85
# Name: (free colour, its share, fixed colour added).
PALETTE: dict[str, tuple[str, float, Rgb]] = {
    "skin": ("skin", 1.0, (0.0, 0.0, 0.0)),
    "shade": ("skin", 0.84, (0.0, 0.0, 0.0)),
    "crease": ("skin", 0.60, (0.0, 0.0, 0.0)),
    "shine": ("skin", 0.55, (0.45, 0.45, 0.45)),
    "blush": ("skin", 0.65, (0.33, 0.14, 0.14)),
    "lip": ("skin", 0.30, (0.52, 0.10, 0.13)),
    "hair": ("hair", 1.0, (0.0, 0.0, 0.0)),
    "dark hair": ("hair", 0.78, (0.0, 0.0, 0.0)),
    "brow": ("hair", 0.70, (0.0, 0.0, 0.0)),
    "gloss": ("hair", 0.72, (0.28, 0.28, 0.28)),
    "background": ("background", 1.0, (0.0, 0.0, 0.0)),
    "glow": ("background", 0.45, (0.55, 0.55, 0.55)),
    "clothes": ("clothes", 1.0, (0.0, 0.0, 0.0)),
    "seam": ("clothes", 0.75, (0.0, 0.0, 0.0)),
    "white": ("skin", 0.0, (1.0, 1.0, 1.0)),
    "iris": ("skin", 0.0, (0.36, 0.22, 0.14)),
    "ink": ("skin", 0.0, (0.13, 0.08, 0.09)),
    "throat": ("skin", 0.0, (0.36, 0.05, 0.08)),
}


def free_colours(tones: Tensor, young: Tensor) -> Tensor:
    """Free colours ``[B, 4, 3]`` in [0, 1], of tones ``[B, 4]`` in [0, 1], where hair greys with
    1 − ``young`` ``[B]``."""
    colours = []
    for name, tone in zip(FREE, tones.unbind(1), strict=True):
        stops = torch.tensor(RAMPS[name], device=tones.device)
        place = tone.clamp(0, 1) * (len(stops) - 1)
        lower = place.long().clamp(max=len(stops) - 2)
        colour = torch.lerp(stops[lower], stops[lower + 1], (place - lower)[:, None])
        if name == "hair":
            grey = torch.tensor(GREY, device=tones.device)
            colour = torch.lerp(colour, grey, GREYING * (1 - young)[:, None])
        colours.append(colour)
    return torch.stack(colours, 1)


def mixed(free: Tensor) -> dict[str, Tensor]:
    """Every colour of the palette, ``[B, 3]``, from the free ones ``[B, 4, 3]``."""
    return {
        name: share * free[:, FREE.index(base)] + free.new_tensor(fixed)
        for name, (base, share, fixed) in PALETTE.items()
    }


def separate(like: Tensor) -> dict[str, Tensor]:
    """The palette as ``[len(like), 7]``: the shares of the four free colours, and the fixed one.

    Painting with it gives the picture's coefficients instead of the picture.
    """
    table = {}
    for name, (base, share, fixed) in PALETTE.items():
        shares = [share * (base == other) for other in FREE]
        table[name] = like.new_tensor([*shares, *fixed]).expand(len(like), -1)
    return table
