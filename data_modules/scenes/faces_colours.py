"""The colours of cartoon faces: each is a share of one of four free colours, plus a fixed one.

So a picture is linear in the free colours, which the ruler makes use of.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FREE", "GREY", "GREYING", "PALETTE", "free_colours", "mixed", "separate"]

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
