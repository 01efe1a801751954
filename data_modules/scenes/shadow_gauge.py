"""How much a natural shadow must be enlarged about the origin to reach a point of the floor.

The shadow of a convex body is the intersection of half-planes n · x ≤ h(n), h being its support
function; the smallest enlargement that holds x is the largest n · x / h(n). For a polyhedron the
normals across its projected edges are enough, and exact.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from data_modules.scenes.shadow_light import Light
from data_modules.scenes.shadow_shapes import (
    POLYHEDRA,
    SPHERE,
    cylinder_shadow,
    outline,
    sphere_shadow,
)

__all__ = ["enlargement"]

ROUND_NORMALS = 64
NEVER = 1e3  # the enlargement where no finite one is enough


def enlargement(shape: int, size: Tensor, position: Tensor, light: Light, floor: Tensor) -> Tensor:
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
        start, end = _edges(shape).to(size.device)
        along = shadow[:, end] - shadow[:, start]
        across = torch.stack([along[..., 1], -along[..., 0]], -1)
        across = across / across.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        normals = torch.cat([across, -across], 1)
        return normals, (normals @ shadow.mT).amax(-1)
    angle = torch.arange(ROUND_NORMALS, device=size.device) * (2 * torch.pi / ROUND_NORMALS)
    normals = torch.stack([angle.cos(), angle.sin()], -1)
    diagonal, across = normals.sum(1), (normals[:, 0] - normals[:, 1]) / 2**0.5
    if shape == SPHERE:
        centre, major, minor = (part[:, None] for part in sphere_shadow(size, position, light))
        reach = ((major * diagonal / 2**0.5).square() + (minor * across).square()).sqrt()
        support = centre * diagonal + reach
    else:
        centre, wide = (part[:, None] for part in cylinder_shadow(size, position, light))
        support = torch.maximum(size[:, None].expand(-1, ROUND_NORMALS), centre * diagonal + wide)
    return normals.expand(len(size), -1, -1), support


@lru_cache(maxsize=8)
def _edges(shape: int) -> Tensor:
    """Ends ``[2, E]`` of a polyhedron's edges."""
    faces = POLYHEDRA[shape].faces
    ends = torch.stack([faces.flatten(), faces.roll(-1, 1).flatten()])
    return ends[:, ends[0] < ends[1]]
