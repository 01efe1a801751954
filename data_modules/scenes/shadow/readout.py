"""The ruler of the Shadow scenes: measure every factor of a picture by undoing how it was drawn.

1. Floor: the tint that most of the floor has; under a lamp also position and colour of the spot,
   by fitting the floor's known pattern of light (:func:`.floor.read_floor`).
2. Body colour: the one of 42 products (object × light) whose direction in RGB fits the pixels that
   are too saturated for any floor.
3. Each pixel is un-mixed into floor and body. The body's map is compared with templates of every
   shape, size and light position; least squares between the templates gives size and position.
4. What the floor lacks is shadow. The enlargement of the natural shadow about the origin is found
   at which it covers as much of the visible floor (:func:`.floor.read_shadow`).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from data_modules.scenes.shadow.floor import (
    TINTS,
    ShadowEvidence,
    floor_centres,
    read_floor,
    read_shadow,
    saturation,
)
from data_modules.scenes.shadow.geometry import SHAPES, Light
from data_modules.scenes.shadow.picture import (
    OBJECT_COLOURS,
    SHADOW_LEVEL,
    bodies_at_once,
    cast_body,
)
from data_modules.scenes.unmixing import cached, displayed, read_in_chunks

CHUNK_PIXELS = 2**18  # read at once: 64 images at 64 pixels, which stay in the cache
# Large pictures are averaged over squares of pixels before they are read.
AVERAGED = {32: 1, 64: 1, 96: 2, 128: 2, 256: 4}
BODY_PIXELS, BODY_NOISE = 96, 0.04
FAINT, FEWEST = 0.02, 3  # saturation that only a body has, and in how many pixels
RIVALS, FITS = 3, 4  # shapes that are fitted, and steps of each fit
SIZE_STEP, POSITION_STEP = 0.05, 1.0
SIZES = tuple(0.3 + SIZE_STEP * step for step in range(29))
POSITIONS = tuple(-1.0 + POSITION_STEP * step for step in range(11))
BODY_COLOURS = (torch.tensor(list(OBJECT_COLOURS.values()))[:, None] * TINTS).view(-1, 3)


def read_native(images: Tensor, light: Light) -> Tensor:
    """Native factors, float32 ``[B, 7 or 9]``, of ``[B, 3, S, S]`` images in [-1, 1] whose size is
    in AVERAGED; NaN where there is no body, or no floor, to measure."""
    chunk = CHUNK_PIXELS // images.shape[-1] ** 2
    return read_in_chunks(partial(_read_chunk, light=light), images, chunk)


def _read_chunk(images: Tensor, light: Light) -> Tensor:
    if not len(images):
        return images.new_zeros(0, 9 if light.is_point else 7, dtype=torch.float32)
    shown = avg_pool2d((displayed(images) + 1) / 2, AVERAGED[images.shape[-1]])
    image_size, pixels = shown.shape[-1], shown.flatten(2)
    floor = read_floor(pixels, image_size, light)
    colour, found = _read_colour(pixels)
    floor_part, body_part = _unmix(pixels, floor.tint, BODY_COLOURS.to(pixels)[colour])
    body_part = body_part.view(-1, image_size, image_size)
    shape, size, position, stiffness, cover = _read_body(body_part, _bodies(image_size, light))
    contrast = floor.level - SHADOW_LEVEL
    shaded = (floor.level * (1 - cover) - floor_part) / contrast
    seen = ShadowEvidence(shape, size, position, stiffness, shaded, cover, contrast)
    centres, pixel_area = (part.to(pixels) for part in floor_centres(image_size, light))
    area, position = read_shadow(seen, light, centres, pixel_area)
    of_body = (shape, colour // len(TINTS), size, position, colour % len(TINTS), area)
    body = torch.stack(of_body, 1).where(found[:, None], torch.nan)
    of_ground = (floor.colour, floor.spot, floor.spot_colour)[: 3 if light.is_point else 1]
    ground = torch.stack(of_ground, 1).where(floor.found[:, None], torch.nan)
    return torch.cat([body, ground], dim=1)


def _read_colour(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the body's colour in BODY_COLOURS ``[B]``, and whether there is any body."""
    excess, where = saturation(pixels).topk(BODY_PIXELS, dim=1)
    best = pixels.gather(2, where[:, None].expand(-1, 3, -1))
    along = torch.einsum("kc,bcp->bkp", normalize(BODY_COLOURS).to(pixels), best)
    # Pixels that are partly floor fit no colour: they count alike against all.
    aside = (best.square().sum(1, keepdim=True) - along.square()).clamp(max=BODY_NOISE**2)
    wrong = (aside @ excess.clamp(min=0)[..., None])[..., 0]
    return wrong.argmin(1), (excess > FAINT).sum(1) >= FEWEST


def _unmix(pixels: Tensor, floor: Tensor, body: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares weights ``[B, P]`` of floor ``[B, 3, P]`` and body ``[B, 3]`` colours."""
    body = body[..., None]
    ff, fb, bb = (floor * floor).sum(1), (floor * body).sum(1), (body * body).sum(1)
    fp, bp = (floor * pixels).sum(1), (body * pixels).sum(1)
    det = ff * bb - fb.square()
    return (bb * fp - fb * bp) / det, (ff * bp - fb * fp) / det


def _read_body(body: Tensor, known: Bodies) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shape, size, light position, its stiffness ``[B]`` and coverage ``[B, P]`` of ``[B, S, S]``
    body maps."""
    seen = body[:, *known.window].flatten(1)
    table = known.shade.to(seen)
    flat = table.flatten(0, 2)
    distance = flat.square().sum(1) - 2 * seen @ flat.T
    nearest = distance.view(len(seen), len(table), -1).min(2)
    rivals = nearest.values.topk(RIVALS, dim=1, largest=False).indices
    fits = [_fit_body(seen, table, shape, nearest.indices) for shape in rivals.unbind(1)]
    indices, errors, stiffnesses = (torch.stack(part, 1) for part in zip(*fits, strict=True))
    best = errors.argmin(1, keepdim=True)
    shape, stiffness = rivals.gather(1, best)[:, 0], stiffnesses.gather(1, best)[:, 0]
    by_size, by_position = indices.gather(1, best[..., None].expand(-1, -1, 2))[:, 0].unbind(1)
    covers = known.cover.to(seen)
    low = by_size.long().clamp(max=covers.shape[1] - 2)
    mixed = torch.lerp(covers[shape, low], covers[shape, low + 1], (by_size - low)[:, None])
    cover = torch.zeros_like(body)
    cover[:, *known.window] = mixed.view_as(cover[:, *known.window])
    size, position = SIZES[0] + SIZE_STEP * by_size, POSITIONS[0] + POSITION_STEP * by_position
    return shape, size, position, stiffness, cover.flatten(1)


def _fit_body(
    seen: Tensor, table: Tensor, shape: Tensor, nearest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Least squares between the templates of one ``shape`` ``[B]`` per map ``[B, R]``: fractional
    indices in SIZES and POSITIONS ``[B, 2]``, squared error and stiffness ``[B]``."""
    sizes, positions = table.shape[1:3]
    best = nearest.gather(1, shape[:, None])[:, 0]
    at = torch.stack([best // positions, best % positions], 1).to(seen)
    last = at.new_tensor([sizes - 1.0, positions - 1.0])
    for _ in range(FITS):
        here, by_size, by_position = _between(table, shape, at)
        slopes, error = torch.stack([by_size, by_position], 2), (seen - here)[..., None]
        normal = slopes.mT @ slopes + 1e-6 * torch.eye(2, device=seen.device)
        step = torch.linalg.solve(normal, slopes.mT @ error)[..., 0]
        at = torch.minimum((at + step.clamp(-0.5, 0.5)).clamp(min=0), last)
    stiffness = normal[:, 1, 1] - normal[:, 0, 1].square() / normal[:, 0, 0]
    here = _between(table, shape, at)[0]
    return at, (seen - here).square().sum(1), stiffness


def _between(table: Tensor, shape: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Templates at fractional indices ``[B, 2]``, and their slopes: linear by size, quadratic by
    position, in which the shading is smooth."""
    sizes, positions = table.shape[1:3]
    low = at[:, 0].long().clamp(max=sizes - 2)
    middle = at[:, 1].round().long().clamp(1, positions - 2)
    part, u = (at[:, 0] - low)[:, None], (at[:, 1] - middle)[:, None]
    weights = torch.stack([u * (u - 1) / 2, 1 - u * u, u * (u + 1) / 2])
    slopes = torch.stack([u - 0.5, -2 * u, u + 0.5])
    ends, by_position = [], []
    for end in (low, low + 1):
        three = torch.stack([table[shape, end, middle + j] for j in (-1, 0, 1)])
        ends.append((weights * three).sum(0))
        by_position.append((slopes * three).sum(0))
    here = torch.lerp(ends[0], ends[1], part)
    return here, ends[1] - ends[0], torch.lerp(by_position[0], by_position[1], part)


class Bodies(NamedTuple):
    """Templates on a grid of shapes, sizes and light positions.

    Attributes:
        shade: ``[7, sizes, positions, R]``, the weight of the body's colour in R pixels.
        cover: ``[7, sizes, R]``, how much of each pixel the body covers.
        window: rows and columns of the picture that the R pixels fill.
    """

    shade: Tensor
    cover: Tensor
    window: tuple[slice, ...]


@cached
def _bodies(image_size: int, light: Light) -> Bodies:
    """All templates of a picture size; cast once, in a few seconds at 64 pixels."""
    sizes, positions = torch.cartesian_prod(torch.tensor(SIZES), torch.tensor(POSITIONS)).unbind(1)
    shades, covers = [], []
    for shape in range(len(SHAPES)):
        for rows in torch.arange(len(sizes)).split(bodies_at_once(image_size)):
            shade, hit = cast_body(shape, sizes[rows], positions[rows], image_size, light)
            shades.append(shade)
            covers.append(hit.float().mean(-1))
    grid = (len(SHAPES), len(SIZES), len(POSITIONS), image_size, image_size)
    shade, cover = torch.cat(shades).view(grid), torch.cat(covers).view(grid)[:, :, 0]
    used = cover.amax((0, 1)) > 0
    spans = (used.any(side).nonzero()[:, 0].tolist() for side in (1, 0))
    window = tuple(slice(span[0], span[-1] + 1) for span in spans)
    shade, cover = shade[:, :, :, *window].flatten(3), cover[:, :, *window].flatten(2)
    return Bodies(shade.contiguous(), cover.contiguous(), window)
