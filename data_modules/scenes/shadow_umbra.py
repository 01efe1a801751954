"""Reading a shadow: its enlargement, and the light position as far as the shadow tells it.

The model of a shadow is a pixel's share in the natural shadow times the enlargement, with linear
edges one pixel wide. A first guess comes from counting pixels; then least squares fits enlargement
and light position together, the position held by what the body's shading says of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.scenes.shadow_gauge import enlargement
from data_modules.scenes.shadow_light import Light
from data_modules.scenes.shadow_shapes import footprint_area, hull_area

__all__ = ["Umbra", "read_umbra"]

FITS, STEP = 2, 0.02
HIDDEN = 0.02  # coverage from which a pixel says nothing about the floor
NATURAL_FIT = 0.01  # how much worse, in squared levels, a natural shadow may fit
NATURAL_COUNT = 2.0  # pixels by which a natural shadow may be wrong more than the best


@dataclass(frozen=True)
class Umbra:
    """What is known of ``[B]`` shadows in ``[B, S * S]`` pixels before they are read.

    Attributes:
        shape, size, position: of body and light, from the body's picture.
        stiffness: how fast the squared error of the body grows with the position.
        shaded: part of the pixel's floor that the shadow darkens.
        cover: part of the pixel that the body covers.
        contrast: level of lit floor above that of shadow.
    """

    shape: Tensor
    size: Tensor
    position: Tensor
    stiffness: Tensor
    shaded: Tensor
    cover: Tensor
    contrast: Tensor


def read_umbra(
    seen: Umbra, light: Light, floor: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    """Shadow area and light position ``[B]``; ``floor`` ``[P, 2]``, ``pixel_area`` ``[P]``."""
    area, position = torch.empty_like(seen.size), torch.empty_like(seen.size)
    for place in seen.shape.unique().tolist():
        rows = (seen.shape == place).nonzero()[:, 0]
        parts = {name: value[rows] for name, value in vars(seen).items()}
        scale, position[rows] = _fit(place, Umbra(**parts), light, floor, pixel_area)
        shape, size = parts["shape"], parts["size"]
        whole = scale.square() * hull_area(shape, size, position[rows], light)
        area[rows] = (whole - footprint_area(shape, size)).clamp(min=0)
    return area, position


def _fit(
    shape: int, seen: Umbra, light: Light, floor: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    size, start = seen.size, seen.position
    free = (1 - seen.cover) * (seen.cover < HIDDEN)
    shaded = seen.shaded.clamp(-0.5, 1.5) * (seen.cover < HIDDEN)
    needed = enlargement(shape, size, start, light, floor)
    scale, natural_count = _count(needed, free, shaded, pixel_area)
    position = start
    for fit in range(FITS):
        here = enlargement(shape, size, position, light, floor) if fit else needed
        ahead = enlargement(shape, size, position + STEP, light, floor)
        width = _width(here)
        share = (scale[:, None] - here) / width + 0.5
        edge = ((share > 0) & (share < 1)) * free * seen.contrast / width
        error = (shaded - free * share.clamp(0, 1)) * seen.contrast
        by_position = edge * (here - ahead) / STEP
        kk = seen.stiffness + by_position.square().sum(1) + 1e-6
        ks, ss = (by_position * edge).sum(1), edge.square().sum(1) + 1e-6
        to_k = (by_position * error).sum(1) + seen.stiffness * (start - position)
        to_s = (edge * error).sum(1)
        det = (kk * ss - ks.square()).clamp(min=1e-12)
        position = position + ((ss * to_k - ks * to_s) / det).clamp(-0.5, 0.5)
        scale = scale + ((kk * to_s - ks * to_k) / det).clamp(-0.2, 0.2)
        scale = scale.clamp(min=0)
    worse = (scale - 1).square() * (ss - ks.square() / kk)
    natural = (worse < NATURAL_FIT) & (natural_count < NATURAL_COUNT)
    return torch.where(natural, 1.0, scale), position


def _count(
    needed: Tensor, free: Tensor, shaded: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    """The enlargement at which fewest pixels are wrong, and how many more are so at 1; ``[B]``.

    Wrong are dark pixels outside and lit pixels inside. Equally good enlargements are resolved in
    favour of the one nearest to 1.
    """
    order = needed.argsort(1)
    needed = needed.gather(1, order)
    wrong = ((free - 2 * shaded) * (pixel_area / pixel_area.mean())).gather(1, order).cumsum(1)
    biased = wrong + 0.5 * (needed - 1).abs().clamp(max=1)
    best = biased.argmin(1, keepdim=True)
    one = torch.searchsorted(needed, torch.ones_like(needed[:, :1])).clamp(1, needed.shape[1]) - 1
    more = wrong.gather(1, one) - wrong.gather(1, best)
    return needed.gather(1, best)[:, 0], more[:, 0]


def _width(needed: Tensor) -> Tensor:
    """How much the enlargement changes across a pixel, ``[B, P]``."""
    side = round(needed.shape[1] ** 0.5)
    grid = needed.view(-1, side, side)
    down, across = torch.gradient(grid, dim=(1, 2))
    return (down.abs() + across.abs()).flatten(1).clamp(min=1e-4)
