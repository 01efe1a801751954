"""The Shadow pictures: one body, its shadow and a lit floor, by batched ray casting.

A pixel is a sum of few colours: ``body · (object colour × light colour) + floor · floor colour``,
under a point light ``+ pool · spot colour``. The weights, one map each, come from geometry and
shading alone (:func:`weight_maps`); colours are mixed afterwards (:func:`draw_shadow`). So pictures
that differ in colours alone share one cast, and the ruler can un-mix what was mixed here.

Light of brightness E is drawn at the level E^(1/2.2). The body is shaded by the half-Lambert law
((1 + n·l) / 2)², which models also the faces that the light misses; being convex, it throws no
shadow on itself. The floor is lit evenly by the sun; under a point light it falls off as
(h / distance)³ and has a pool of light, wherever the spot is. A shadow whose area
is not the natural one is that, enlarged about the origin, where the body stands.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.shadow.cast import body_hits, hides
from data_modules.scenes.shadow.rays import START, Camera, Light, camera_for
from data_modules.scenes.shadow.shapes import footprint_area, hull_area, outline

# Object colours and the colours of light and floor, in display units. Chosen so that the products
# of the two, of which the body has one, are at least 4.9° apart as directions in RGB.
OBJECT_COLOURS = {
    "Red": (0.89, 0.22, 0.32),
    "Orange": (0.93, 0.52, 0.24),
    "Yellow": (0.90, 1.00, 0.29),
    "Green": (0.16, 0.65, 0.19),
    "Cyan": (0.23, 0.85, 0.80),
    "Blue": (0.30, 0.22, 0.91),
    "Purple": (0.68, 0.30, 0.97),
}
PALE = 0.62
LIGHT_COLOURS = {
    "SkyBlue": (PALE, 1.0, 1.0),
    "Plum": (1.0, PALE, 1.0),
    "Khaki": (1.0, 1.0, PALE),
    "Lavender": (PALE, PALE, 1.0),
    "LightGreen": (PALE, 1.0, PALE),
    "Coral": (1.0, PALE, PALE),
}
GEOMETRY = ("shape", "size", "position", "area", "spot")
SAMPLES = 13  # per pixel, a Fibonacci lattice: no two share a row or a column
CHUNK_RAYS = 2**19
CHUNK_PIXELS = 2**23  # mixed at once: 2,048 pictures at 64 pixels, 100 MB
GAMMA = 1 / 2.2
BODY_AMBIENT, FLOOR_AMBIENT = 0.06, 0.11
FLOOR_ALBEDO = 0.94  # display level of a floor in full light
POOL_SHARE, POOL_RADIUS = 0.3, 1.9


def shadow_scale(
    shape: Tensor, size: Tensor, position: Tensor, area: Tensor, light: Light
) -> Tensor:
    """How much ``[B]`` the natural shadow is enlarged about the origin to have ``area``.

    1 for the natural area; 0, no shadow, where the area is impossible.
    """
    whole = (area + footprint_area(shape, size)).clamp(min=0)
    return (whole / hull_area(shape, size, position, light)).sqrt()


def floor_levels(floor: Tensor, spot: Tensor, light: Light) -> tuple[Tensor, Tensor, float]:
    """Display level of the lit floor and share of the pool's colour, ``[B, N]``, at ``[N, 2]``.

    The last value is the level in the shadow.
    """
    dark = FLOOR_ALBEDO * FLOOR_AMBIENT**GAMMA
    if not light.is_point:
        shape = (len(spot), len(floor))
        return floor.new_full(shape, FLOOR_ALBEDO), floor.new_zeros(shape), dark
    away = (floor - (spot + START)[:, None, None]).square().sum(-1)
    pool = torch.exp(-away / (2 * POOL_RADIUS**2))
    fall_off = (1 + away / light.height**2) ** -1.5
    direct = (1 - POOL_SHARE) * fall_off + POOL_SHARE * pool
    return FLOOR_ALBEDO * (FLOOR_AMBIENT + (1 - FLOOR_AMBIENT) * direct) ** GAMMA, pool, dark


@lru_cache(maxsize=16)
def _cast_rays(camera: Camera, image_size: int, samples: int) -> tuple[Tensor, Tensor]:
    """Rays ``[S * S * n, 3]`` and where they meet the floor ``[S * S * n, 2]``."""
    with torch.inference_mode(False), torch.no_grad():
        order = torch.arange(samples)
        lattice = torch.stack([order, order * 8 % samples], 1)
        rays = camera.rays(image_size, (lattice + 0.5) / samples)
        return rays, camera.on_floor(rays)


def weight_maps(native: Tensor, image_size: int, light: Light) -> Tensor:
    """Weights ``[B, 3, S, S]`` of body, floor and pool, for :data:`GEOMETRY` columns ``[B, 5]``."""
    shapes = native[:, 0].round().long()
    maps = torch.empty(len(native), 3, image_size, image_size, device=native.device)
    chunk = max(CHUNK_RAYS // (SAMPLES * image_size**2), 1)
    for shape in shapes.unique().tolist():
        for rows in (shapes == shape).nonzero()[:, 0].split(chunk):
            maps[rows] = _cast(shape, native[rows], image_size, light)
    return maps


def _cast(shape: int, native: Tensor, image_size: int, light: Light) -> Tensor:
    places, size, position, area, spot = native.unbind(1)
    camera = camera_for(light)
    floor = _cast_rays(camera, image_size, SAMPLES)[1].to(native)
    scale = shadow_scale(places.round().long(), size, position, area, light).clamp(min=1e-4)
    body, hit = _cast_body(shape, size, position, image_size, light)
    shadow = light.project(outline(shape, size), position) * scale[:, None, None]
    window = _window(camera, pad(shadow, (0, 1)), image_size)
    some = floor.view(image_size, image_size, SAMPLES, 2)[window]
    natural = some.reshape(1, -1, 2) / scale[:, None, None]
    shaded = hides(shape, size, natural, light.slope(natural, position))
    shaded = shaded.view(len(size), *some.shape[:3]) & ~hit[:, *window]
    dark = torch.zeros_like(body)
    dark[:, *window] = shaded.float().mean(-1)
    # The light on the floor changes slowly: once a pixel is enough.
    centres = _cast_rays(camera, image_size, 1)[1].to(native)
    level, pool, darkness = floor_levels(centres, spot, light)
    level, pool = level.view_as(body), pool.view_as(body)
    lit = level * (1 - hit.float().mean(-1) - dark) + darkness * dark
    return torch.stack([body, lit * (1 - pool), lit * pool], 1)


def _cast_body(
    shape: int, size: Tensor, position: Tensor, image_size: int, light: Light
) -> tuple[Tensor, Tensor]:
    """Weight of the body's colour ``[B, S, S]``, and which samples hit it ``[B, S, S, n]``."""
    camera, grid = camera_for(light), (image_size, image_size, SAMPLES)
    rays = _cast_rays(camera, image_size, SAMPLES)[0].to(size)
    window = _window(camera, outline(shape, size), image_size)
    some = rays.view(*grid, 3)[window]
    struck, cosine = body_hits(
        shape, size, position, light, camera.origin.to(size), some.reshape(-1, 3)
    )
    shade = (BODY_AMBIENT + (1 - BODY_AMBIENT) * ((1 + cosine) / 2).square()) ** GAMMA
    inside = (len(size), *some.shape[:3])
    hit = torch.zeros(len(size), *grid, dtype=torch.bool, device=size.device)
    hit[:, *window] = struck.view(inside)
    body = size.new_zeros(len(size), *grid[:2])
    body[:, *window] = (shade * struck).view(inside).mean(-1)
    return body, hit


def body_maps(
    shape: int, size: Tensor, position: Tensor, image_size: int, light: Light
) -> tuple[Tensor, Tensor]:
    """Weight of the body's colour, and coverage by the body, ``[B, S, S]``, of one shape."""
    chunk = max(CHUNK_RAYS // (SAMPLES * image_size**2), 1)
    parts = [
        _cast_body(shape, some, at, image_size, light)
        for some, at in zip(size.split(chunk), position.split(chunk), strict=True)
    ]
    shade, cover = zip(*((body, hit.float().mean(-1)) for body, hit in parts), strict=True)
    return torch.cat(shade), torch.cat(cover)


def _window(camera: Camera, points: Tensor, image_size: int) -> tuple[slice, slice]:
    """Rows and columns of the picture in which any of the ``[B, N, 3]`` points may be seen."""
    seen = camera.locate(points).nan_to_num(0).clamp(-1, 1).view(-1, 2)
    low, high = seen.amin(0) - 0.03, seen.amax(0) + 0.03
    half = image_size / 2
    left, right = int((low[0] + 1) * half), int((high[0] + 1) * half) + 1
    top, bottom = int((1 - high[1]) * half), int((1 - low[1]) * half) + 1
    return (
        slice(max(top, 0), min(bottom, image_size)),
        slice(max(left, 0), min(right, image_size)),
    )


def draw_shadow(
    geometry: Tensor, body: Tensor, floor: Tensor, pool: Tensor, image_size: int, light: Light
) -> Tensor:
    """Draw pictures, float32 ``[B, 3, S, S]`` in [-1, 1].

    Args:
        geometry: ``[B, 5]``, the columns of :data:`GEOMETRY`.
        body, floor, pool: colours ``[B, 3]`` in [0, 1].

    Raises:
        ValueError: for factors that are not finite.
    """
    if not torch.isfinite(geometry).all():
        raise ValueError("Cannot draw factors that are NaN or infinite: check what made them.")
    colours = torch.stack([body, floor, pool], 2)
    images = torch.empty(len(geometry), 3, image_size, image_size, device=geometry.device)
    chunk = max(CHUNK_PIXELS // image_size**2, 1)
    for part in torch.arange(len(geometry), device=geometry.device).split(chunk):
        kinds, which = geometry[part].unique(dim=0, return_inverse=True)
        maps = weight_maps(kinds, image_size, light).flatten(2)
        mixed = torch.bmm(colours[part], maps[which]).mul_(2).sub_(1)
        images[part] = mixed.view(-1, 3, image_size, image_size)
    return images
