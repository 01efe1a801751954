"""Ray casting on one of the seven bodies: where rays hit it, and which floor points it shades."""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes.shadow.rays import START, Light
from data_modules.scenes.shadow.shapes import CYLINDER, POLYHEDRA, SPHERE, Polyhedron

FAR = 1e6
FLAT = 1e-6  # slopes below it are parallel to a face


def body_hits(
    shape: int, size: Tensor, position: Tensor, light: Light, origin: Tensor, rays: Tensor
) -> tuple[Tensor, Tensor]:
    """Where ``[R, 3]`` rays from ``origin`` hit bodies of ``size`` ``[B]``.

    Returns:
        ``[B, R]`` bool, and the cosine between surface and light there (finite elsewhere).
    """
    if shape in POLYHEDRA:
        return _hit_polyhedron(POLYHEDRA[shape], size, position, light, origin, rays)
    if shape == SPHERE:
        hit, t = _hit_sphere(size, origin, rays)
        points = origin + t[..., None] * rays
        centre = torch.stack([torch.zeros_like(size), torch.zeros_like(size), size], -1)
        normals = (points - centre[:, None]) / size[:, None, None]
    else:
        hit, t, on_top = _hit_cylinder(size, origin, rays)
        points = origin + t[..., None] * rays
        normals = points / size[:, None, None]
        normals[..., 2] = 0
        normals = torch.where(on_top[..., None], normals.new_tensor([0.0, 0.0, 1.0]), normals)
    return hit, (normals * light.direction(points, position)).sum(-1)


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
        lamp = torch.cat([q, q, torch.full_like(q, light.height)], 1)
        distance = (lamp[:, None] - points).norm(dim=-1)
        cosine = (height - size[:, None] * offsets).gather(1, chosen) / distance
    else:
        norm = (2 * q.square() + light.height**2).sqrt()
        cosine = (height / norm).gather(1, chosen)
    return enters < leaves, cosine


def _hit_sphere(size: Tensor, origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    a = rays.square().sum(1)
    b = rays @ origin - rays[:, 2] * size[:, None]
    c = origin.square().sum() - 2 * origin[2] * size[:, None]  # |o − centre|² − s²
    root = b.square() - a * c
    return root > 0, (-b - root.clamp(min=0).sqrt()) / a


def _hit_cylinder(size: Tensor, origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Seen from above: the ray enters by the top if it reaches that after the side, else there."""
    a = rays[:, :2].square().sum(1).clamp(min=FLAT)
    b = rays[:, :2] @ origin[:2]
    root = b.square() - a * (origin[:2].square().sum() - size[:, None].square())
    half = root.clamp(min=0).sqrt()
    side, far_side = (-b - half) / a, (-b + half) / a
    top = (2 * size[:, None] - origin[2]) / rays[:, 2]
    ground = -origin[2] / rays[:, 2]
    enters, leaves = torch.maximum(side, top), torch.minimum(far_side, ground)
    return (root > 0) & (enters < leaves), enters, top > side


def hides(shape: int, size: Tensor, floor: Tensor, slope: Tensor) -> Tensor:
    """Whether bodies stand between floor points ``[B, R, 2]`` and an eye or a light.

    ``slope`` ``[B, R, 2]`` is how far the line of sight moves, in x and y, per height. Returns
    ``[B, R]`` bool.
    """
    if shape == CYLINDER:
        rate = slope.square().sum(-1).clamp(min=FLAT**2)
        height = (-(floor * slope).sum(-1) / rate).clamp(min=0)
        height = torch.minimum(height, 2 * size[:, None])
        return (floor + height[..., None] * slope).square().sum(-1) < size[:, None].square()
    if shape == SPHERE:
        # Distance of the centre from the line (floor, 0) + z (slope, 1).
        rate = 1 + slope.square().sum(-1)
        along = size[:, None] - (floor * slope).sum(-1)
        gap = floor.square().sum(-1) + size[:, None].square() - along.square() / rate
        return gap < size[:, None].square()
    body = POLYHEDRA[shape]
    low, high = torch.zeros_like(slope[..., 0]), torch.full_like(slope[..., 0], FAR)
    for normal, offset in zip(body.normals.tolist(), body.offsets.tolist(), strict=True):
        if normal[2] < -1 + FLAT:
            continue  # the face on the floor
        nx, ny, nz = normal
        room = size[:, None] * offset - (nx * floor[..., 0] + ny * floor[..., 1])
        climb = nx * slope[..., 0] + ny * slope[..., 1] + nz
        climb = torch.where(climb.abs() < FLAT, FLAT, climb)
        z = room / climb
        out = climb > 0
        torch.minimum(high, torch.where(out, z, FAR), out=high)
        torch.maximum(low, torch.where(out, low, z), out=low)
    return low < high
