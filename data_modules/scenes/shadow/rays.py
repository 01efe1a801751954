"""Where the light of the Shadow data stands, and where its rays go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cos, radians, sin, tan

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Camera:
    """Looks at ``target`` (x, y, z) from ``distance``; angles in degrees, picture square.

    ``azimuth`` is measured from x to y, ``elevation`` from the floor up, ``view`` is the angle
    between the left and the right side of the picture.
    """

    target: tuple[float, float, float]
    azimuth: float
    elevation: float
    distance: float
    view: float

    @cached_property
    def axes(self) -> Tensor:
        """``[3, 3]``: to the right, up and forward, as rows."""
        a, e = radians(self.azimuth), radians(self.elevation)
        return torch.tensor(
            [
                [-sin(a), cos(a), 0.0],
                [-sin(e) * cos(a), -sin(e) * sin(a), cos(e)],
                [-cos(e) * cos(a), -cos(e) * sin(a), -sin(e)],
            ]
        )

    @cached_property
    def origin(self) -> Tensor:
        return torch.tensor(self.target) - self.distance * self.axes[2]

    @property
    def reach(self) -> float:
        return tan(radians(self.view / 2))

    def rays(self, image_size: int, samples: Tensor) -> Tensor:
        """Directions ``[S * S * n, 3]`` through ``samples`` ``[n, 2]`` in [0, 1] of each pixel.

        Row by row from the top, the samples of a pixel beside one another.
        """
        cells = torch.arange(image_size)
        x = (cells[None, :, None] + samples[:, 0]) * (2 / image_size) - 1
        y = 1 - (cells[:, None, None] + samples[:, 1]) * (2 / image_size)
        x, y = (self.reach * v.expand(image_size, image_size, -1).reshape(-1, 1) for v in (x, y))
        right, up, forward = self.axes
        return forward + x * right + y * up

    def on_floor(self, rays: Tensor) -> Tensor:
        """Where rays meet the floor: ``[N, 2]``."""
        return (self.origin - rays * (self.origin[2] / rays[:, 2:]))[:, :2]

    def locate(self, points: Tensor) -> Tensor:
        """Where ``[..., 3]`` points are seen: x, y ``[..., 2]`` in −1…1, y upwards."""
        right, up, depth = ((points - self.origin.to(points)) @ self.axes.T.to(points)).unbind(-1)
        return torch.stack([right, up], -1) / (self.reach * depth)[..., None]


# Light and shadow move along the diagonal x = y, which climbs from the lower left of the picture
# to its upper right: the longest way a square has. All published shadows are inside.
SUN_CAMERA = Camera((-0.35, -0.45, 0.0), azimuth=-100.0, elevation=57.0, distance=24.0, view=22.4)
POINT_CAMERA = Camera((-0.75, -1.0, 0.0), azimuth=-100.0, elevation=57.0, distance=24.0, view=31.5)


def camera_for(light: Light) -> Camera:
    return POINT_CAMERA if light.is_point else SUN_CAMERA
