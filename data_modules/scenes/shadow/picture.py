"""The Shadow pictures: one body, its shadow and a lit floor, by batched ray casting.

A pixel is a sum of few colours: ``body · (object colour × light colour) + floor · floor colour``,
under a point light ``+ spot · spot colour``. The weights, one map each, come from geometry and
shading alone (:func:`weight_maps`); colours are mixed afterwards (:func:`draw_shadow`). So pictures
that differ in colours alone share one cast, and the ruler can un-mix what was mixed here.

Light of brightness E is drawn at the level E^(1/2.2). The body is shaded by the half-Lambert law
((1 + n·l) / 2)², which models also the faces that the light misses; being convex, it throws no
shadow on itself. The floor is lit evenly by the sun; under a point light it falls off as
(h / distance)³ and has a spot of light, wherever the spot position is. A shadow whose area
is not the natural one is that, enlarged about the origin, where the body stands.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.shadow.geometry import (
    CYLINDER,
    POLYHEDRA,
    SPHERE,
    START,
    Camera,
    Light,
    Polyhedron,
    footprint_area,
    hull_area,
    outline,
)
from data_modules.scenes.unmixing import cached

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
SAMPLES = 13  # per pixel, a Fibonacci lattice: no two share a row or a column
CHUNK_RAYS = 2**19
CHUNK_PIXELS = 2**23  # mixed at once: 2,048 pictures at 64 pixels, 100 MB
GAMMA = 1 / 2.2
BODY_AMBIENT, FLOOR_AMBIENT = 0.06, 0.11
FLOOR_ALBEDO = 0.94  # display level of a floor in full light
SHADOW_LEVEL = FLOOR_ALBEDO * FLOOR_AMBIENT**GAMMA
SPOT_SHARE, SPOT_RADIUS = 0.3, 1.9
FAR = 1e6
FLAT = 1e-6  # slopes below it are parallel to a face


def draw_shadow(
    geometry: Tensor, body: Tensor, floor: Tensor, spot: Tensor, image_size: int, light: Light
) -> Tensor:
    """Draw pictures, float32 ``[B, 3, S, S]`` in [-1, 1]: ``geometry`` ``[B, 5]`` is native shape,
    size, light position, shadow area and spot position, finite, and ``body``, ``floor``, ``spot``
    are colours ``[B, 3]`` in [0, 1]."""
    colours = torch.stack([body, floor, spot], 2)
    images = torch.empty(len(geometry), 3, image_size, image_size, device=geometry.device)
    chunk = max(CHUNK_PIXELS // image_size**2, 1)
    for part in torch.arange(len(geometry), device=geometry.device).split(chunk):
        kinds, which = geometry[part].unique(dim=0, return_inverse=True)
        maps = weight_maps(kinds, image_size, light).flatten(2)
        mixed = torch.bmm(colours[part], maps[which]).mul_(2).sub_(1)
        images[part] = mixed.view(-1, 3, image_size, image_size)
    return images


def weight_maps(geometry: Tensor, image_size: int, light: Light) -> Tensor:
    """Weights ``[B, 3, S, S]`` of body, floor and spot, for the ``geometry`` ``[B, 5]`` of
    :func:`draw_shadow`."""
    shapes = geometry[:, 0].round().long()
    maps = torch.empty(len(geometry), 3, image_size, image_size, device=geometry.device)
    for shape in shapes.unique().tolist():
        for rows in (shapes == shape).nonzero()[:, 0].split(bodies_at_once(image_size)):
            maps[rows] = _cast(shape, geometry[rows], image_size, light)
    return maps


def shadow_scale(
    shape: Tensor, size: Tensor, position: Tensor, area: Tensor, light: Light
) -> Tensor:
    """How much ``[B]`` the natural shadow is enlarged about the origin to have ``area``: 1 for the
    natural area, 0 (no shadow) for an impossible one."""
    whole = (area + footprint_area(shape, size)).clamp(min=0)
    return (whole / hull_area(shape, size, position, light)).sqrt()


def floor_levels(floor: Tensor, spot: Tensor, light: Light) -> tuple[Tensor, Tensor]:
    """Display level of the lit floor and share of the spot's colour, ``[B, N]``, at points
    ``[N, 2]`` for spot positions ``[B]``."""
    if not light.is_point:
        no_spot = floor.new_zeros(len(spot), len(floor))
        return no_spot + FLOOR_ALBEDO, no_spot
    away = (floor - (spot + START)[:, None, None]).square().sum(-1)
    share = torch.exp(-away / (2 * SPOT_RADIUS**2))
    fall_off = (1 + away / light.height**2) ** -1.5
    direct = (1 - SPOT_SHARE) * fall_off + SPOT_SHARE * share
    return FLOOR_ALBEDO * (FLOOR_AMBIENT + (1 - FLOOR_AMBIENT) * direct) ** GAMMA, share


def bodies_at_once(image_size: int) -> int:
    """How many bodies to cast together, to bound the memory."""
    return max(CHUNK_RAYS // (SAMPLES * image_size**2), 1)


@cached
def _cast_rays(camera: Camera, image_size: int, samples: int) -> tuple[Tensor, Tensor]:
    """Rays ``[S * S * n, 3]`` and where they meet the floor ``[S * S * n, 2]``."""
    order = torch.arange(samples)
    lattice = torch.stack([order, order * 8 % samples], 1)
    rays = camera.rays(image_size, (lattice + 0.5) / samples)
    return rays, camera.on_floor(rays)


def _cast(shape: int, geometry: Tensor, image_size: int, light: Light) -> Tensor:
    """Weights ``[B, 3, S, S]`` for bodies of one shape."""
    shapes, size, position, area, spot = geometry.unbind(1)
    floor = _cast_rays(light.camera, image_size, SAMPLES)[1].to(geometry)
    scale = shadow_scale(shapes.round().long(), size, position, area, light).clamp(min=1e-4)
    body, hit = cast_body(shape, size, position, image_size, light)
    shadow = light.project(outline(shape, size), position) * scale[:, None, None]
    window = _window(light.camera, pad(shadow, (0, 1)), image_size)
    some = floor.view(image_size, image_size, SAMPLES, 2)[window]
    natural = some.reshape(1, -1, 2) / scale[:, None, None]
    shaded = occludes(shape, size, natural, light.slope(natural, position))
    shaded = shaded.view(len(size), *some.shape[:3]) & ~hit[:, *window]
    dark = torch.zeros_like(body)
    dark[:, *window] = shaded.float().mean(-1)
    # The light on the floor changes slowly: once a pixel is enough.
    centres = _cast_rays(light.camera, image_size, 1)[1].to(geometry)
    level, share = (part.view_as(body) for part in floor_levels(centres, spot, light))
    lit = level * (1 - hit.float().mean(-1) - dark) + SHADOW_LEVEL * dark
    return torch.stack([body, lit * (1 - share), lit * share], 1)


def cast_body(
    shape: int, size: Tensor, position: Tensor, image_size: int, light: Light
) -> tuple[Tensor, Tensor]:
    """Weight of the body's colour ``[B, S, S]``, and which samples hit it ``[B, S, S, n]``, of one
    shape in sizes and light positions ``[B]``."""
    grid = (image_size, image_size, SAMPLES)
    rays = _cast_rays(light.camera, image_size, SAMPLES)[0].to(size)
    window = _window(light.camera, outline(shape, size), image_size)
    some = rays.view(*grid, 3)[window]
    struck, cosine = _intersect(shape, size, position, light, some.reshape(-1, 3))
    shade = (BODY_AMBIENT + (1 - BODY_AMBIENT) * ((1 + cosine) / 2).square()) ** GAMMA
    inside = (len(size), *some.shape[:3])
    hit = torch.zeros(len(size), *grid, dtype=torch.bool, device=size.device)
    hit[:, *window] = struck.view(inside)
    body = size.new_zeros(hit.shape[:3])
    body[:, *window] = (shade * struck).view(inside).mean(-1)
    return body, hit


def _window(camera: Camera, points: Tensor, image_size: int) -> tuple[slice, slice]:
    """Rows and columns of the picture in which any of the ``[B, N, 3]`` points may be seen."""
    seen = camera.locate(points).nan_to_num(0).clamp(-1, 1).view(-1, 2)
    low, high = seen.amin(0) - 0.03, seen.amax(0) + 0.03
    half = image_size / 2
    left, right = int((low[0] + 1) * half), int((high[0] + 1) * half) + 1
    top, bottom = int((1 - high[1]) * half), int((1 - low[1]) * half) + 1
    rows, columns = ((max(a, 0), min(b, image_size)) for a, b in ((top, bottom), (left, right)))
    return slice(*rows), slice(*columns)


# --- rays against bodies ---


def _intersect(
    shape: int, size: Tensor, position: Tensor, light: Light, rays: Tensor
) -> tuple[Tensor, Tensor]:
    """Whether ``[R, 3]`` rays from the camera hit bodies of ``size`` ``[B]``, and the cosine
    between surface and light there (finite elsewhere), ``[B, R]`` each."""
    origin = light.camera.origin.to(size)
    if shape in POLYHEDRA:
        return _hit_polyhedron(POLYHEDRA[shape], size, position, light, origin, rays)
    hit, points, normals = (_hit_sphere if shape == SPHERE else _hit_cylinder)(size, origin, rays)
    towards = light.vector(position)[:, None]
    towards = towards - points if light.is_point else towards
    return hit, (normals * (towards / towards.norm(dim=-1, keepdim=True))).sum(-1)


def _hit_polyhedron(
    body: Polyhedron, size: Tensor, position: Tensor, light: Light, origin: Tensor, rays: Tensor
) -> tuple[Tensor, Tensor]:
    normals, offsets = body.normals.to(rays), body.offsets.to(rays)
    facing = normals @ rays.T  # [F, R]
    start = normals @ origin
    enters = torch.full((len(size), rays.shape[0]), -FAR, device=rays.device)
    leaves = torch.full_like(enters, FAR)
    face = torch.zeros(enters.shape, dtype=torch.uint8, device=rays.device)
    for f in range(len(normals)):
        slope = torch.where(facing[f].abs() < FLAT, -FLAT, facing[f])
        t = (size[:, None] * offsets[f] - start[f]) / slope
        inward = slope < 0
        if inward.any():
            into = torch.where(inward, t, -FAR)
            face.masked_fill_(into > enters, f)
            torch.maximum(enters, into, out=enters)
        if not inward.all():
            torch.minimum(leaves, torch.where(inward, FAR, t), out=leaves)
    chosen = face.long()
    # On a face n·x = s · offset, so the way to the light has the same height above all its points.
    q = (position + START)[:, None]
    height = q * (normals[:, 0] + normals[:, 1]) + light.height * normals[:, 2]
    if light.is_point:
        points = origin + enters[..., None].clamp(min=0) * rays
        distance = (light.vector(position)[:, None] - points).norm(dim=-1)
        cosine = (height - size[:, None] * offsets).gather(1, chosen) / distance
    else:
        norm = (2 * q.square() + light.height**2).sqrt()
        cosine = (height / norm).gather(1, chosen)
    return enters < leaves, cosine


def _hit_sphere(size: Tensor, origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether rays hit ``[B, R]``, where, and the normals there ``[B, R, 3]``."""
    a = rays.square().sum(1)
    b = rays @ origin - rays[:, 2] * size[:, None]
    c = origin.square().sum() - 2 * origin[2] * size[:, None]  # |o − centre|² − s²
    root = b.square() - a * c
    t = (-b - root.clamp(min=0).sqrt()) / a
    points = origin + t[..., None] * rays
    return root > 0, points, (points - pad(size[:, None], (2, 0))[:, None]) / size[:, None, None]


def _hit_cylinder(size: Tensor, origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Likewise. Seen from above, a ray enters by the top if it reaches that after the side."""
    a = rays[:, :2].square().sum(1).clamp(min=FLAT)
    b = rays[:, :2] @ origin[:2]
    root = b.square() - a * (origin[:2].square().sum() - size[:, None].square())
    half = root.clamp(min=0).sqrt()
    side, far_side = (-b - half) / a, (-b + half) / a
    top = (2 * size[:, None] - origin[2]) / rays[:, 2]
    enters, leaves = torch.maximum(side, top), torch.minimum(far_side, -origin[2] / rays[:, 2])
    points = origin + enters[..., None] * rays
    normals = points / size[:, None, None]
    normals[..., 2] = 0
    on_top = (top > side)[..., None]
    normals = torch.where(on_top, normals.new_tensor([0.0, 0.0, 1.0]), normals)
    return (root > 0) & (enters < leaves), points, normals


def occludes(shape: int, size: Tensor, floor: Tensor, slope: Tensor) -> Tensor:
    """Whether bodies of ``size`` ``[B]`` stand between floor points ``[B, R, 2]`` and an eye or a
    light: ``[B, R]`` bool. ``slope`` ``[B, R, 2]`` is how far the line of sight moves in x and y,
    per height."""
    if shape == CYLINDER:
        rate = slope.square().sum(-1).clamp(min=FLAT**2)
        height = torch.minimum((-(floor * slope).sum(-1) / rate).clamp(min=0), 2 * size[:, None])
        return (floor + height[..., None] * slope).square().sum(-1) < size[:, None].square()
    if shape == SPHERE:
        # Distance of the centre from the line (floor, 0) + z (slope, 1).
        rate = 1 + slope.square().sum(-1)
        along = size[:, None] - (floor * slope).sum(-1)
        gap = floor.square().sum(-1) + size[:, None].square() - along.square() / rate
        return gap < size[:, None].square()
    body = POLYHEDRA[shape]
    low, high = torch.zeros_like(slope[..., 0]), torch.full_like(slope[..., 0], FAR)
    for (nx, ny, nz), offset in zip(body.normals.tolist(), body.offsets.tolist(), strict=True):
        if nz < -1 + FLAT:
            continue  # the face on the floor
        room = size[:, None] * offset - (nx * floor[..., 0] + ny * floor[..., 1])
        climb = nx * slope[..., 0] + ny * slope[..., 1] + nz
        climb = torch.where(climb.abs() < FLAT, FLAT, climb)
        z, out = room / climb, climb > 0
        torch.minimum(high, torch.where(out, z, FAR), out=high)
        torch.maximum(low, torch.where(out, low, z), out=low)
    return low < high
