"""Reading the floor of a Shadow picture: its colour, the lamp's spot on it, and the shadow."""

from __future__ import annotations

from math import pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.scenes.shadow.geometry import (
    POLYHEDRA,
    SPHERE,
    Light,
    cylinder_shadow,
    footprint_area,
    hull_area,
    outline,
    sphere_shadow,
)
from data_modules.scenes.shadow.picture import LIGHT_COLOURS, PALE, floor_levels
from data_modules.scenes.unmixing import cached

TINTS = torch.tensor(list(LIGHT_COLOURS.values()))
FLOORLIKE = 0.06  # excess of saturation below which a pixel may be floor
DARKEST = 0.15  # no floor is darker, even in the shadow
COLOUR_NOISE = 0.03
OUTLIER = 0.01  # squared distance in RGB from which a pixel is shadow or body, not lit floor
COARSE = 11  # pixels across, for the first search of the spot
SPOTS = torch.arange(-1, 9.01, 0.5)
STEPS, STEP, EVERY = 3, 0.05, 3


class Floor(NamedTuple):
    """How the floor of ``[B]`` pictures would look without body and shadow."""

    colour: Tensor  # indices of the colours of floor and spot, [B] int64
    spot_colour: Tensor
    spot: Tensor  # position [B]
    level: Tensor  # brightness in full light, [B, P]
    tint: Tensor  # colour [B, 3, P]
    found: Tensor  # whether there is a floor, [B]


def saturation(pixels: Tensor) -> Tensor:
    """Chroma ``[B, P]`` of ``[B, 3, P]`` beyond that of any floor, lit or not."""
    return pixels.amax(1) - pixels.amin(1) / PALE


@cached
def floor_centres(image_size: int, light: Light) -> tuple[Tensor, Tensor]:
    """Floor points ``[P, 2]`` at the centres of all pixels, and each pixel's area of floor."""
    around = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    points = light.camera.on_floor(light.camera.rays(image_size, around)).view(-1, 5, 2)
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
    spot, spot_colour = torch.zeros(len(pixels), device=pixels.device), colour
    if light.is_point:
        spot, spot_colour = _read_spot(pixels, may_be, colour, image_size, light)
    centres = floor_centres(image_size, light)[0].to(pixels)
    level, share = floor_levels(centres, spot, light)
    return Floor(colour, spot_colour, spot, level, _tint(colour, spot_colour, share), most >= 1)


def _tint(colour: Tensor, spot_colour: Tensor, share: Tensor) -> Tensor:
    """Colour of the floor ``[B, 3, P]``, of which the spot has a ``share`` ``[B, P]``."""
    tints = TINTS.to(share)
    floor, glow = tints[colour][..., None], tints[spot_colour][..., None]
    return floor + share[:, None] * (glow - floor)


def _lit(points: Tensor, colour: Tensor, spot_colour: Tensor, spot: Tensor, light: Light) -> Tensor:
    """The empty floor ``[B, 3, P]``."""
    level, share = floor_levels(points, spot, light)
    return level[:, None] * _tint(colour, spot_colour, share)


def _read_spot(
    pixels: Tensor, may_be: Tensor, colour: Tensor, image_size: int, light: Light
) -> tuple[Tensor, Tensor]:
    """Position of the spot and index of its colour, ``[B]`` each: the best of some positions and
    all colours on a few pixels, then Gauss-Newton steps on the position."""
    chosen, table = (part.to(pixels.device) for part in _coarse_floors(image_size, light))
    few, mask = pixels[:, :, chosen], may_be[:, chosen].float()
    candidates = table[colour]  # [B, spots * colours, 3, P']
    error = (candidates - few[:, None]).square().sum(2).clamp(max=OUTLIER)
    best = (error @ mask[..., None])[..., 0].argmin(1)
    spot, spot_colour = SPOTS.to(pixels)[best // len(TINTS)], best % len(TINTS)
    some = slice(None, None, EVERY)  # enough pixels to fit one number
    few, mask = pixels[..., some], may_be[:, some]
    centres = floor_centres(image_size, light)[0].to(pixels)[some]
    for _ in range(STEPS):
        here, ahead = (_lit(centres, colour, spot_colour, at, light) for at in (spot, spot + STEP))
        error, slope = few - here, (ahead - here) / STEP
        slope = slope * (mask & (error.square().sum(1) < OUTLIER))[:, None]
        step = (error * slope).sum((1, 2)) / slope.square().sum((1, 2)).clamp(min=1e-3)
        spot = (spot + step.clamp(-0.5, 0.5)).clamp(-2, 10)
    return spot, spot_colour


@cached
def _coarse_floors(image_size: int, light: Light) -> tuple[Tensor, Tensor]:
    """Some pixels, and empty floors there: ``[floor colours, spots * spot colours, 3, P']``."""
    cells = ((torch.arange(COARSE) + 0.5) * image_size / COARSE).long()
    chosen = (cells[:, None] * image_size + cells).flatten()
    centres = floor_centres(image_size, light)[0][chosen]
    every = [torch.arange(count) for count in (len(TINTS), len(SPOTS), len(TINTS))]
    floor, spot, spot_colour = torch.cartesian_prod(*every).unbind(1)
    lit = _lit(centres, floor, spot_colour, SPOTS[spot], light)
    return chosen, lit.view(len(TINTS), -1, 3, len(chosen))


# --- shadow ---

FITS, SHADOW_STEP = 2, 0.02
HIDDEN = 0.02  # coverage by the body from which a pixel is not used for the floor
NATURAL_FIT = 0.01  # how much worse, in squared levels, a natural shadow may fit
NATURAL_COUNT = 2.0  # pixels by which a natural shadow may be wrong more than the best
ROUND_NORMALS = 64
NEVER = 1e3  # the enlargement where no finite one is enough


class ShadowEvidence(NamedTuple):
    """What is known of ``[B]`` shadows in ``[B, P]`` pixels before they are read."""

    shape: Tensor
    size: Tensor
    position: Tensor  # of the light, from the body's picture
    stiffness: Tensor  # how fast the squared error of the body grows with the position
    shaded: Tensor  # part of the pixel's floor that the shadow darkens
    cover: Tensor  # part of the pixel that the body covers
    contrast: Tensor  # level of lit floor above that of shadow


def read_shadow(
    seen: ShadowEvidence, light: Light, floor: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    """Shadow area and light position ``[B]``; ``floor`` ``[P, 2]``, ``pixel_area`` ``[P]``."""
    area, position = torch.empty_like(seen.size), torch.empty_like(seen.size)
    for index in seen.shape.unique().tolist():
        rows = (seen.shape == index).nonzero()[:, 0]
        some = ShadowEvidence(*(value[rows] for value in seen))
        scale, position[rows] = _fit(index, some, light, floor, pixel_area)
        whole = scale.square() * hull_area(some.shape, some.size, position[rows], light)
        area[rows] = (whole - footprint_area(some.shape, some.size)).clamp(min=0)
    return area, position


def _fit(
    shape: int, seen: ShadowEvidence, light: Light, floor: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    """Enlargement of the natural shadow and light position, ``[B]`` each, by Gauss-Newton steps
    on both from the best enlargement at the body's light position."""
    size, start = seen.size, seen.position
    free = (1 - seen.cover) * (seen.cover < HIDDEN)
    shaded = seen.shaded.clamp(-0.5, 1.5) * (seen.cover < HIDDEN)
    needed = _enlargement(shape, size, start, light, floor)
    scale, natural_count = _count(needed, free, shaded, pixel_area)
    position = start
    for fit in range(FITS):
        here = _enlargement(shape, size, position, light, floor) if fit else needed
        ahead = _enlargement(shape, size, position + SHADOW_STEP, light, floor)
        down, across = torch.gradient(here.unflatten(1, (-1, round(len(floor) ** 0.5))), dim=(1, 2))
        width = (down.abs() + across.abs()).flatten(1).clamp(min=1e-4)  # change across a pixel
        share = (scale[:, None] - here) / width + 0.5
        edge = ((share > 0) & (share < 1)) * free * seen.contrast / width
        error = (shaded - free * share.clamp(0, 1)) * seen.contrast
        by_position = edge * (here - ahead) / SHADOW_STEP
        # Normal equations: k is the position, s the scale.
        kk = seen.stiffness + by_position.square().sum(1) + 1e-6
        ks, ss = (by_position * edge).sum(1), edge.square().sum(1) + 1e-6
        to_k = (by_position * error).sum(1) + seen.stiffness * (start - position)
        to_s = (edge * error).sum(1)
        det = (kk * ss - ks.square()).clamp(min=1e-12)
        position = position + ((ss * to_k - ks * to_s) / det).clamp(-0.5, 0.5)
        scale = (scale + ((kk * to_s - ks * to_k) / det).clamp(-0.2, 0.2)).clamp(min=0)
    worse = (scale - 1).square() * (ss - ks.square() / kk)
    natural = (worse < NATURAL_FIT) & (natural_count < NATURAL_COUNT)
    return torch.where(natural, 1.0, scale), position


def _count(
    needed: Tensor, free: Tensor, shaded: Tensor, pixel_area: Tensor
) -> tuple[Tensor, Tensor]:
    """The enlargement at which fewest pixels are wrong (dark outside or lit inside; of equals the
    one nearest to 1), and how many more are wrong at 1: ``[B]`` each."""
    order = needed.argsort(1)
    needed = needed.gather(1, order)
    wrong = ((free - 2 * shaded) * (pixel_area / pixel_area.mean())).gather(1, order).cumsum(1)
    biased = wrong + 0.5 * (needed - 1).abs().clamp(max=1)
    best = biased.argmin(1, keepdim=True)
    one = torch.searchsorted(needed, torch.ones_like(needed[:, :1])).clamp(1, needed.shape[1]) - 1
    more = wrong.gather(1, one) - wrong.gather(1, best)
    return needed.gather(1, best)[:, 0], more[:, 0]


def _enlargement(shape: int, size: Tensor, position: Tensor, light: Light, floor: Tensor) -> Tensor:
    """The least enlargement ``[B, R]`` of ``[B]`` shadows that holds points ``[R, 2]``."""
    normals, support = _half_planes(shape, size, position, light)
    # A shadow whose rim passes through the origin never grows beyond it.
    scaled = normals / support.clamp(min=1e-4)[..., None]
    needed = torch.zeros(len(size), len(floor), device=floor.device)
    for part in scaled.split(8, dim=1):
        torch.maximum(needed, (part @ floor.T).amax(1), out=needed)
    return needed.clamp(max=NEVER)


def _half_planes(shape: int, size: Tensor, position: Tensor, light: Light) -> tuple[Tensor, Tensor]:
    """Unit normals ``[B, D, 2]`` (zero where an edge projects to a point), support ``[B, D]``."""
    if shape in POLYHEDRA:
        shadow = light.project(outline(shape, size), position)
        faces = POLYHEDRA[shape].faces
        start, end = torch.stack([faces.flatten(), faces.roll(-1, 1).flatten()]).to(size.device)
        start, end = start[start < end], end[start < end]  # every edge once
        along = shadow[:, end] - shadow[:, start]
        across = torch.stack([along[..., 1], -along[..., 0]], -1)
        across = across / across.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        normals = torch.cat([across, -across], 1)
        return normals, (normals @ shadow.mT).amax(-1)
    angle = torch.arange(ROUND_NORMALS, device=size.device) * (2 * pi / ROUND_NORMALS)
    normals = torch.stack([angle.cos(), angle.sin()], -1)
    diagonal, across = normals.sum(1), (normals[:, 0] - normals[:, 1]) / sqrt(2)
    if shape == SPHERE:
        centre, major, minor = (part[:, None] for part in sphere_shadow(size, position, light))
        reach = ((major * diagonal / sqrt(2)).square() + (minor * across).square()).sqrt()
        support = centre * diagonal + reach
    else:
        centre, wide = (part[:, None] for part in cylinder_shadow(size, position, light))
        support = torch.maximum(size[:, None].expand(-1, ROUND_NORMALS), centre * diagonal + wide)
    return normals.expand(len(size), -1, -1), support
