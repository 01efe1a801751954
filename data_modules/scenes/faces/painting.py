"""What cartoon faces are painted with: shapes in the coordinates of each face, and a palette.

Shapes are given in face units: canvas pixels at scale 1, from the middle of the face, x to the
right and y *down*, as image files have it. A shape's coverage of a pixel is a ramp one pixel wide
across its outline, ``[B, h, w]`` in [0, 1]. Numbers may be floats or ``[B, 1, 1]``, one per face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor

import torch
from torch import Tensor

from data_modules.scenes.drawing import Rgb

Number = float | Tensor


@dataclass(frozen=True)
class Patch:
    """A canvas with one face on each image, or part of it.

    Attributes:
        pixels: view of the canvas, ``[B, C, h, w]``, painted in place.
        x, y: of the pixels' centres in face units, ``[B, 1, w]`` and ``[B, h, 1]``.
        scale: pixels in one face unit, ``[B, 1, 1]``.
        colours: to paint with, ``[B, C]`` each.
    """

    pixels: Tensor
    x: Tensor
    y: Tensor
    scale: Tensor
    colours: dict[str, Tensor]

    def part(self, left: float, right: float, top: float, bottom: float) -> Patch:
        """The pixels that this rectangle (in face units) touches in any of the faces."""
        columns, rows = self._span(left, right, self.x), self._span(top, bottom, self.y)
        pixels = self.pixels[:, :, rows, columns]
        return replace(self, pixels=pixels, x=self.x[..., columns], y=self.y[:, rows])

    def _span(self, low: float, high: float, centres: Tensor) -> slice:
        first, last = centres[:, :1, :1], max(centres.shape[1:])
        start = floor(float(((low - first) * self.scale).min())) - 1
        stop = ceil(float(((high - first) * self.scale).max())) + 2
        start = min(max(start, 0), last)
        return slice(start, min(max(stop, start), last))

    def paint(self, colour: str, coverage: Tensor) -> None:
        """Lay a colour over the pixels in place, as opaque as ``coverage``."""
        self.pixels.lerp_(self.colours[colour][:, :, None, None], coverage[:, None])

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

    def arc(self, x: Number, y: Number, reach: Number, bend: Number, half: Number) -> Tensor:
        """Coverage of a stroke that tapers to both ends: a parabola through (x, y) whose ends, at
        x ± ``reach``, lie ``bend`` higher; it is 2 ``half`` thick in the middle."""
        u = (self.x - x) / reach
        thick = half * (1 - u.square()).clamp(min=0).sqrt()
        slope = -2 * bend * u.clamp(-1, 1) / reach
        offset = (self.y - (y - bend * u.square())) / (1 + slope.square()).sqrt()
        # A difference, so that strokes thinner than a pixel stay right.
        return self.inside(offset + thick) - self.inside(offset - thick)

    def box(self, left: float, right: float, top: float, bottom: float, radius: float) -> Tensor:
        """Coverage of a rectangle with rounded corners."""
        u = (self.x - (left + right) / 2).abs() - (right - left) / 2 + radius
        v = (self.y - (top + bottom) / 2).abs() - (bottom - top) / 2 + radius
        corner = (u.clamp(min=0).square() + v.clamp(min=0).square()).sqrt()
        return self.inside(radius - corner - torch.maximum(u, v).clamp(max=0))


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
NONE: Rgb = (0.0, 0.0, 0.0)
# Name: (free colour, its share, fixed colour added).
PALETTE: dict[str, tuple[str, float, Rgb]] = {
    "skin": ("skin", 1.0, NONE),
    "shade": ("skin", 0.84, NONE),
    "crease": ("skin", 0.60, NONE),
    "shine": ("skin", 0.55, (0.45, 0.45, 0.45)),
    "blush": ("skin", 0.65, (0.33, 0.14, 0.14)),
    "lip": ("skin", 0.30, (0.52, 0.10, 0.13)),
    "hair": ("hair", 1.0, NONE),
    "dark hair": ("hair", 0.78, NONE),
    "brow": ("hair", 0.70, NONE),
    "gloss": ("hair", 0.72, (0.28, 0.28, 0.28)),
    "background": ("background", 1.0, NONE),
    "glow": ("background", 0.45, (0.55, 0.55, 0.55)),
    "clothes": ("clothes", 1.0, NONE),
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


def palette(free: Tensor) -> dict[str, Tensor]:
    """Every colour ``[B, C]``, from the free ones ``[B, 4, C]``; the last three of C channels are
    red, green and blue.

    With unit vectors for free colours, C = 7, painting gives the picture's coefficients: the share
    of each free colour in a pixel, and the fixed colour added.
    """
    none = (0.0,) * (free.shape[2] - 3)
    return {
        name: share * free[:, FREE.index(base)] + free.new_tensor((*none, *fixed))
        for name, (base, share, fixed) in PALETTE.items()
    }
