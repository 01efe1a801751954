"""Where the light of the Shadow data stands, and where its rays go."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["POINT", "START", "SUN", "Light"]

START = -4.0  # x and y of the light at position 0


@dataclass(frozen=True)
class Light:
    """A light at (q, q, ``height``), q = position − 4: the sun in that direction, or a point there.

    Published light positions are 0…8. The sun shines along its direction everywhere.
    """

    height: float
    is_point: bool

    def project(self, points: Tensor, position: Tensor) -> Tensor:
        """Shadows ``[B, N, 2]`` on the floor of ``points`` ``[B, N, 3]``, lit from ``[B]``."""
        flat, z = points[..., :2], points[..., 2:]
        q = (position + START)[:, None, None]
        if self.is_point:
            return self.height * (flat - q) / (self.height - z) + q
        return flat - z / self.height * q

    def slope(self, floor: Tensor, position: Tensor) -> Tensor:
        """How far a ray from ``floor`` ``[B, N, 2]`` to the light moves, in x and y, per height."""
        q = (position + START)[:, None, None]
        return (q - floor) / self.height if self.is_point else q.expand_as(floor) / self.height

    def direction(self, points: Tensor, position: Tensor) -> Tensor:
        """Unit vectors from ``[B, N, 3]`` towards the light."""
        q = (position + START)[:, None].expand(points.shape[:2])
        towards = torch.stack([q, q, torch.full_like(q, self.height)], dim=-1)
        towards = towards - points if self.is_point else towards
        return towards / towards.norm(dim=-1, keepdim=True)


SUN = Light(5.0, is_point=False)
POINT = Light(8.0, is_point=True)
