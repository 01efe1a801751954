"""Places that are found in each image: what lies behind, its brightest part, and the object."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

EDGE = 0.06  # difference of neighbouring pixels, in [-1, 1], that growing does not cross

FOUND = ("background", "object", "background_highlight", "background_rest")
PARTS = ("background_rest", "background_highlight", "object")
"""Places that share every picture among them."""


def found_places(image: Tensor, wanted: Collection[str] = FOUND) -> dict[str, Tensor]:
    """The ``wanted`` places in images ``[B, C, H, W]`` in [-1, 1]: ``[B, H, W]`` in [0, 1].

    ``background`` is what is joined to the border (:func:`background`), ``object`` the rest. The
    former is shared by ``background_highlight`` (:func:`highlight`) and ``background_rest``.
    """
    around = background(image)
    places = {"background": around, "object": 1 - around}
    if not places.keys() >= set(wanted):
        light = highlight(image, around)
        places |= {"background_highlight": light, "background_rest": around - light}
    return {name: places[name] for name in wanted}


def background(image: Tensor) -> Tensor:
    """``[B, H, W]``, 1 where a pixel is joined to the border of ``[B, C, H, W]`` in [-1, 1].

    Two neighbours are joined where no channel of them differs by more than :data:`EDGE`, so that
    a floor whose light falls off smoothly is one background.
    """
    down = (image.diff(dim=-2).abs().amax(dim=1) < EDGE).to(image)
    right = (image.diff(dim=-1).abs().amax(dim=1) < EDGE).to(image)
    found = torch.zeros_like(image[:, 0])
    found[:, [0, -1]] = 1.0
    found[:, :, [0, -1]] = 1.0
    # The border itself may cross an object: only what most of it shows is background there.
    ring = found.bool().expand_as(image[:, 0])
    colours = image.movedim(1, -1)[ring].view(len(image), -1, image.shape[1])
    usual = colours.median(dim=1).values[:, :, None, None]
    found = found * ((image - usual).abs().amax(dim=1) < 0.5).to(image)
    for _ in range(sum(image.shape[-2:]) ** 2):  # ends when nothing is added
        grown = found.clone()
        grown[:, 1:] = torch.maximum(grown[:, 1:], found[:, :-1] * down)
        grown[:, :-1] = torch.maximum(grown[:, :-1], found[:, 1:] * down)
        grown[:, :, 1:] = torch.maximum(grown[:, :, 1:], found[:, :, :-1] * right)
        grown[:, :, :-1] = torch.maximum(grown[:, :, :-1], found[:, :, 1:] * right)
        if torch.equal(grown, found):
            break
        found = grown
    return found


def highlight(image: Tensor, around: Tensor) -> Tensor:
    """``[B, H, W]``: how far each pixel of the background ``around`` belongs to its brightest part.

    The squared place of its brightest channel between the background's median, below which it is 0,
    and its brightest two hundredth, above which it is 1. A coloured light so has the shape that a
    white one had. 0 everywhere where the two differ by less than :data:`EDGE`: an even background
    has no highlight.
    """
    level = image.amax(dim=1)
    inside = torch.where(around > 0, level, torch.nan).flatten(1)
    known = torch.tensor([0.5, 0.995], dtype=level.dtype, device=level.device)
    low, high = torch.nanquantile(inside, known, dim=1).nan_to_num(0.0)[..., None, None]
    share = ((level - low) / (high - low).clamp_min(EDGE)).clamp(0, 1).square()
    light: Tensor = share * around * (high - low > EDGE)
    return light
