"""Places that are found in each image: what lies behind, its brightest part, and the object."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 0.06  # difference of neighbouring pixels, in [-1, 1], that growing does not cross
# In shares of full brightness: how far a shadow's colour is from the background's, how far the
# latter is from grey at least, and, as a share of its brightness, how dark a shadow is at most.
OFF, GREY, DARKEST = 0.03, 0.03, 0.25

FOUND = ("background", "object", "background_highlight", "background_rest")
PARTS = ("background_rest", "background_highlight", "object")
"""Places that share every picture among them."""


def found_places(image: Tensor, wanted: Collection[str] = FOUND) -> dict[str, Tensor]:
    """The ``wanted`` places in images ``[B, C, H, W]`` in [-1, 1]: ``[B, H, W]`` in [0, 1].

    ``background`` is what is joined to the border (:func:`background`), ``object`` the rest. The
    former is shared by ``background_highlight`` (:func:`highlight`) and ``background_rest``.
    """
    lit = joined(image)
    around = background(image, lit)
    places = {"background": around, "object": 1 - around}
    if not places.keys() >= set(wanted):
        light = highlight(image, lit)
        places |= {"background_highlight": light, "background_rest": around - light}
    return {name: places[name] for name in wanted}


def background(image: Tensor, lit: Tensor | None = None) -> Tensor:
    """``[B, H, W]`` in [0, 1]: how far each pixel of ``[B, C, H, W]`` in [-1, 1] is background.

    That is what is :func:`joined` to the border, found before if it is ``lit``; the shadows on it,
    which are joined to that and have its colour, darker, where it is no grey; and of the pixels
    next to both, in which background and object are mixed, as much as their colour has of it.
    """
    around = joined(image) if lit is None else lit
    shown = (image + 1) / 2
    usual = (shown * around[:, None]).sum(dim=(2, 3)) / around.sum(dim=(1, 2)).clamp_min(1)[:, None]
    hue = F.normalize(usual, dim=1)
    level = torch.einsum("bchw,bc->bhw", shown, hue)
    # What a colour has that the background's, however bright or dark, has not.
    strange = (shown - level[:, None] * hue[:, :, None, None]).norm(dim=1)
    told_apart = (hue - hue.mean(dim=1, keepdim=True)).norm(dim=1) > GREY
    told_apart = told_apart[:, None, None].expand_as(around)
    darkest = DARKEST * usual.norm(dim=1)[:, None, None]
    brightest = (level * around).amax(dim=(1, 2), keepdim=True)
    shaded = (strange < OFF) & (level > darkest) & (level < brightest) & told_apart
    around = _grown(around, lambda found: _next_to(found) * shaded.to(found))
    pure = _next_to(strange * (1 - around))  # of the object next to them
    rim = (_next_to(around) > around) & told_apart & (pure > OFF)
    return torch.where(rim, 1 - strange / pure.clamp_min(OFF), around)


def joined(image: Tensor) -> Tensor:
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

    def step(found: Tensor) -> Tensor:
        more = found.clone()
        more[:, 1:] = torch.maximum(more[:, 1:], found[:, :-1] * down)
        more[:, :-1] = torch.maximum(more[:, :-1], found[:, 1:] * down)
        more[:, :, 1:] = torch.maximum(more[:, :, 1:], found[:, :, :-1] * right)
        more[:, :, :-1] = torch.maximum(more[:, :, :-1], found[:, :, 1:] * right)
        return more

    return _grown(found * ((image - usual).abs().amax(dim=1) < 0.5).to(image), step)


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


def _grown(found: Tensor, step: Callable[[Tensor], Tensor]) -> Tensor:
    """Places ``[B, H, W]`` with what ``step`` says is joined to them, until nothing is."""
    for _ in range(found.shape[-2] * found.shape[-1]):
        more = torch.maximum(found, step(found))
        if torch.equal(more, found):
            break
        found = more
    return found


def _next_to(places: Tensor) -> Tensor:
    """``[B, H, W]``, the largest of each pixel and its eight neighbours."""
    return F.max_pool2d(places[:, None], 3, stride=1, padding=1)[:, 0]
