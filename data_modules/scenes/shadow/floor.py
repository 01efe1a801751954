"""Reading the floor of a Shadow picture: its colour, and the lamp's spot on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data_modules.scenes.shadow.picture import LIGHT_COLOURS, PALE, floor_levels
from data_modules.scenes.shadow.rays import Light, camera_for
from data_modules.scenes.shadow.shapes import enlargement, footprint_area, hull_area

TINTS = torch.tensor(list(LIGHT_COLOURS.values()))
FLOORLIKE = 0.06  # excess of saturation below which a pixel may be floor
DARKEST = 0.15  # no floor is darker, even in the shadow
COLOUR_NOISE = 0.03
OUTLIER = 0.01  # squared distance in RGB from which a pixel is shadow or body, not lit floor
COARSE = 11  # pixels across, for the first search of the spot
SPOTS = torch.arange(-1, 9.01, 0.5)
STEPS, STEP, EVERY = 3, 0.05, 3


@dataclass(frozen=True)
class Floor:
    """How the floor of ``[B]`` pictures would look without body and shadow.

    Attributes:
        colour, pool: places of the colours of floor and spot, ``[B]`` int64.
        spot: position of the spot, ``[B]``.
        level: brightness in full light, ``[B, P]``; ``dark`` in the shadow.
        tint: colour ``[B, 3, P]``, or ``[B, 3, 1]`` where all pixels share it.
        found: whether there is a floor, ``[B]``.
    """

    colour: Tensor
    pool: Tensor
    spot: Tensor
    level: Tensor
    dark: float
    tint: Tensor
    found: Tensor


def saturation(pixels: Tensor) -> Tensor:
    """Chroma ``[B, P]`` of ``[B, 3, P]`` beyond that of any floor, lit or not."""
    return pixels.amax(1) - pixels.amin(1) / PALE


@lru_cache(maxsize=12)
def floor_centres(image_size: int, light: Light) -> tuple[Tensor, Tensor]:
    """Floor points ``[P, 2]`` at the centres of all pixels, and each pixel's area of floor."""
    camera = camera_for(light)
    with torch.inference_mode(False), torch.no_grad():
        around = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
        points = camera.on_floor(camera.rays(image_size, around)).view(-1, 5, 2)
        one, other = points[:, 2] - points[:, 0], points[:, 3] - points[:, 1]
        area = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]).abs() / 2
        return points[:, 4].contiguous(), area


def read_floor(pixels: Tensor, image_size: int, light: Light) -> Floor:
    """Fit the floor of ``[B, 3, P]`` pixels in [0, 1]."""
    may_be = (saturation(pixels) < FLOORLIKE) & (pixels.amax(1) > DARKEST)
    tints = TINTS.to(pixels)
    along = torch.einsum("kc,bcp->bkp", tints / tints.norm(dim=1, keepdim=True), pixels)
    aside = pixels.square().sum(1, keepdim=True) - along.square()
    votes = torch.exp(-aside / (2 * COLOUR_NOISE**2)) * may_be[:, None]
    most, colour = votes.sum(2).max(1)
    found = most >= 1
    centres = floor_centres(image_size, light)[0].to(pixels)
    if not light.is_point:
        spot = torch.zeros(len(pixels), device=pixels.device)
        level, _, dark = floor_levels(centres, spot, light)
        return Floor(colour, colour, spot, level, dark, tints[colour][..., None], found)
    spot, pool = _find_spot(pixels, may_be, colour, image_size, light)
    some = slice(None, None, EVERY)  # enough pixels to fit one number
    few, may_few = pixels[..., some], may_be[:, some]
    for _ in range(STEPS):
        here, ahead = (_lit(centres[some], colour, pool, at, light) for at in (spot, spot + STEP))
        error, slope = few - here, (ahead - here) / STEP
        use = may_few & (error.square().sum(1) < OUTLIER)
        slope = slope * use[:, None]
        step = (error * slope).sum((1, 2)) / slope.square().sum((1, 2)).clamp(min=1e-3)
        spot = (spot + step.clamp(-0.5, 0.5)).clamp(-2, 10)
    level, share, dark = floor_levels(centres, spot, light)
    floor, glow = tints[colour][..., None], tints[pool][..., None]
    tint = floor + share[:, None] * (glow - floor)
    return Floor(colour, pool, spot, level, dark, tint, found)


def _lit(centres: Tensor, colour: Tensor, pool: Tensor, spot: Tensor, light: Light) -> Tensor:
    """The empty floor ``[B, 3, P]``."""
    tints = TINTS.to(centres)
    level, share, _ = floor_levels(centres, spot, light)
    floor, glow = tints[colour][..., None], tints[pool][..., None]
    return level[:, None] * (floor + share[:, None] * (glow - floor))


def _find_spot(
    pixels: Tensor, may_be: Tensor, colour: Tensor, image_size: int, light: Light
) -> tuple[Tensor, Tensor]:
    """The best of some places and all colours of the spot, on a few pixels."""
    chosen, table = _coarse_floors(image_size, light)
    chosen = chosen.to(pixels.device)
    some, mask = pixels[:, :, chosen], may_be[:, chosen].float()
    candidates = table.to(pixels)[colour]  # [B, spots * colours, 3, P']
    error = (candidates - some[:, None]).square().sum(2).clamp(max=OUTLIER)
    best = (error @ mask[..., None])[..., 0].argmin(1)
    return SPOTS.to(pixels)[best // len(TINTS)], best % len(TINTS)


@lru_cache(maxsize=6)
def _coarse_floors(image_size: int, light: Light) -> tuple[Tensor, Tensor]:
    """Some pixels, and empty floors there: ``[floor colours, spots * spot colours, 3, P']``."""
    with torch.inference_mode(False), torch.no_grad():
        cells = ((torch.arange(COARSE) + 0.5) * image_size / COARSE).long()
        chosen = (cells[:, None] * image_size + cells).flatten()
        centres = floor_centres(image_size, light)[0][chosen]
        count = len(TINTS)
        floor, spot, pool = torch.cartesian_prod(
            torch.arange(count), torch.arange(len(SPOTS)), torch.arange(count)
        ).unbind(1)
        lit = _lit(centres, floor, pool, SPOTS[spot], light)
        return chosen, lit.view(count, -1, 3, len(chosen))


FITS, UMBRA_STEP = 2, 0.02
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
        ahead = enlargement(shape, size, position + UMBRA_STEP, light, floor)
        width = _width(here)
        share = (scale[:, None] - here) / width + 0.5
        edge = ((share > 0) & (share < 1)) * free * seen.contrast / width
        error = (shaded - free * share.clamp(0, 1)) * seen.contrast
        by_position = edge * (here - ahead) / UMBRA_STEP
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
