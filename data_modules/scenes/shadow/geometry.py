"""The geometry of the Shadow data: lights, camera, the seven bodies, and their shadows' areas.

The bodies are those of the published Blender scripts, ``Polyhedron_Generation_Sunlight_v6.py`` and
``Polyhedron_Generation_Pointlight_v5.py`` of github.com/Jiagengzhu/Shadow-dataset-for-crl (Zhu et
al., "Shadow Datasets", arXiv 2308.05707). A body of size s is the unit body times s. It stands on
the floor z = 0, at the origin:

- cube of half-side s, sphere of radius s, cylinder of radius s and height 2 s;
- regular tetrahedron on a face whose circumradius is 2 s;
- octahedron and icosahedron of circumradius 1.5 s, balanced on a corner;
- dodecahedron on a face, its corners the face centres of an icosahedron of circumradius 2 s. (In
  Blender a bevel leaves hair-thin triangles at the corners; ours are sharp.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import cos, pi, radians, sin, sqrt, tan
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

SHAPES = ("cube", "sphere", "cylinder", "tetrahedron", "octahedron", "dodecahedron", "icosahedron")
SPHERE, CYLINDER = SHAPES.index("sphere"), SHAPES.index("cylinder")
ROUND_POINTS = 32  # on each circle of an outline
START = -4.0  # x and y of the light at position 0


@dataclass(frozen=True)
class Camera:
    """Looks at ``target`` (x, y, z) from ``distance``; angles in degrees, picture square."""

    target: tuple[float, float, float]
    view: float  # between the left and the right side of the picture
    azimuth: float = -100.0  # from x to y
    elevation: float = 57.0  # from the floor up
    distance: float = 24.0

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
        """Where the camera stands, ``[3]``."""
        return torch.tensor(self.target) - self.distance * self.axes[2]

    @property
    def reach(self) -> float:
        """Half the picture's side, at distance 1."""
        return tan(radians(self.view / 2))

    def rays(self, image_size: int, samples: Tensor) -> Tensor:
        """Directions ``[S * S * n, 3]`` through ``samples`` ``[n, 2]`` in [0, 1] of each pixel, row
        by row from the top, the samples of a pixel beside one another."""
        cells = torch.arange(image_size)
        x = (cells[None, :, None] + samples[:, 0]) * (2 / image_size) - 1
        y = 1 - (cells[:, None, None] + samples[:, 1]) * (2 / image_size)
        x, y = (self.reach * v.expand(image_size, image_size, -1).reshape(-1, 1) for v in (x, y))
        right, up, forward = self.axes
        return forward + x * right + y * up

    def on_floor(self, rays: Tensor) -> Tensor:
        """Where rays ``[N, 3]`` from the camera meet the floor: ``[N, 2]``."""
        return (self.origin - rays * (self.origin[2] / rays[:, 2:]))[:, :2]

    def locate(self, points: Tensor) -> Tensor:
        """Where ``[..., 3]`` points are seen: x, y ``[..., 2]`` in −1…1, y upwards."""
        right, up, depth = ((points - self.origin.to(points)) @ self.axes.T.to(points)).unbind(-1)
        return torch.stack([right, up], -1) / (self.reach * depth)[..., None]


@dataclass(frozen=True)
class Light:
    """A light at (q, q, ``height``), q = position − 4, positions 0…8: the sun in that direction,
    whose light is parallel, or a point there."""

    height: float
    is_point: bool
    camera: Camera  # takes the pictures of the scene

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

    def vector(self, position: Tensor) -> Tensor:
        """Where the point light is, or the direction towards the sun: ``[B, 3]``."""
        q = position + START
        return torch.stack([q, q, torch.full_like(q, self.height)], dim=1)


# Light and shadow move along the diagonal x = y, which climbs from the lower left of the picture
# to its upper right: the longest way a square has. All published shadows are inside.
SUN = Light(5.0, is_point=False, camera=Camera((-0.35, -0.45, 0.0), view=22.4))
POINT = Light(8.0, is_point=True, camera=Camera((-0.75, -1.0, 0.0), view=31.5))


# --- bodies ---


class Polyhedron(NamedTuple):
    """A convex body of size 1, the points with ``normals[f] · x ≤ offsets[f]`` for all f."""

    vertices: Tensor  # [V, 3]
    faces: Tensor  # [F, n], the vertices of each face, in turn
    normals: Tensor  # [F, 3], outward, of unit length
    offsets: Tensor  # [F]


def _standing(vertices: Tensor, normals: Tensor) -> Polyhedron:
    """The body with these corners and outward normals, lifted or lowered to z = 0."""
    vertices = vertices - vertices[:, 2].min() * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    normals = normals / normals.norm(dim=1, keepdim=True)
    heights = vertices @ normals.T
    offsets = heights.amax(0)
    faces = []
    for normal, on_face in zip(normals, (heights > offsets - 1e-6).T, strict=True):
        corners = on_face.nonzero()[:, 0]
        spokes = vertices[corners] - vertices[corners].mean(0)
        aside = torch.linalg.cross(normal.expand_as(spokes), spokes[:1].expand_as(spokes))
        angle = torch.atan2((spokes * aside).sum(1), spokes @ spokes[0])
        faces.append(corners[angle.argsort()])
    return Polyhedron(vertices.float(), torch.stack(faces), normals.float(), offsets.float())


def _polyhedra() -> dict[int, Polyhedron]:
    def rows(points: Iterable[tuple[float, ...]]) -> Tensor:
        return torch.tensor(list(points), dtype=torch.float64)

    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    corners = rows(product((-1.0, 1.0), repeat=3))
    # Blender's cone begins on the y axis, its icosahedron has corners at both poles.
    base = [(2 * sin(a), 2 * cos(a), 0.0) for a in (0, 2 * pi / 3, 4 * pi / 3)]
    tetra = rows([*base, (0.0, 0.0, 2 * sqrt(2))])
    rings = [
        (2 / sqrt(5) * cos((2 * i + low) * pi / 5), 2 / sqrt(5) * sin((2 * i + low) * pi / 5), z)
        for low, z in ((1, -1 / sqrt(5)), (0, 1 / sqrt(5)))
        for i in range(5)
    ]
    icosa = rows([(0.0, 0.0, -1.0), *rings, (0.0, 0.0, 1.0)])
    touching = torch.cdist(icosa, icosa) < 1.1  # neighbours are 1.05 apart, the others 1.7
    triples = [t for t in combinations(range(12), 3) if touching[t, :][:, t].all()]
    centres = icosa[torch.tensor(triples)].mean(1)
    bodies = {
        "cube": _standing(corners, axes),
        "tetrahedron": _standing(tetra, tetra.mean(0) - tetra),
        "octahedron": _standing(1.5 * axes, corners),
        "dodecahedron": _standing(2 * centres, icosa),
        "icosahedron": _standing(1.5 * icosa, centres),
    }
    return {SHAPES.index(name): body for name, body in bodies.items()}


POLYHEDRA = _polyhedra()


def outline(shape: int, size: Tensor) -> Tensor:
    """Points ``[B, N, 3]`` whose shadows span the shadow of the body, for sizes ``[B]``.

    Corners; of a cylinder both rims; of a sphere a net on it, whose shadow is a little too small.
    """
    if shape in POLYHEDRA:
        unit = POLYHEDRA[shape].vertices.to(size)
    else:
        around = torch.arange(ROUND_POINTS).to(size) * (2 * pi / ROUND_POINTS)
        if shape == CYLINDER:
            levels = [(1.0, 0.0), (1.0, 2.0)]
        else:
            steps = range(1, ROUND_POINTS // 2)
            levels = [(sin(t), 1 - cos(t)) for t in (2 * pi * i / ROUND_POINTS for i in steps)]
        circle = torch.stack([around.cos(), around.sin()], -1)
        unit = torch.cat([pad(r * circle, (0, 1), value=z) for r, z in levels])
    return unit * size[:, None, None]


# --- areas on the floor ---


def footprint_area(shape: Tensor, size: Tensor) -> Tensor:
    """Area ``[B]`` of the face on which bodies of ``shape`` ``[B]`` (index in SHAPES) stand."""
    unit = torch.zeros(len(SHAPES), dtype=size.dtype, device=size.device)
    unit[CYLINDER] = pi
    for index, body in POLYHEDRA.items():
        face = body.vertices[body.faces[body.normals[:, 2].argmin()]].to(unit)
        if face[:, 2].max() < 1e-4:
            unit[index] = _polygon_area(face)
    return unit[shape] * size.square()


def hull_area(shape: Tensor, size: Tensor, position: Tensor, light: Light) -> Tensor:
    """Area ``[B]`` of the whole shadow on the floor, the ground below the body included, for
    ``[B]`` indices in :data:`SHAPES` (int64), sizes and light positions."""
    area = torch.zeros_like(size)
    for index in shape.unique().tolist():
        rows = (shape == index).nonzero()[:, 0]
        some, at = size[rows], position[rows]
        if index == SPHERE:
            _, along, across = sphere_shadow(some, at, light)
            area[rows] = pi * along * across
        elif index == CYLINDER:
            area[rows] = _cylinder_area(some, at, light)
        else:
            body = POLYHEDRA[index]
            shadow = light.project(body.vertices.to(some) * some[:, None, None], at)
            # Each ray enters and leaves the body once: faces cover its shadow twice.
            area[rows] = _polygon_area(shadow[:, body.faces.to(rows.device)]).sum(1) / 2
    return area


def _polygon_area(corners: Tensor) -> Tensor:
    """Area of polygons ``[..., n, 2 or 3]`` in the plane of x and y."""
    x, y = corners[..., 0], corners[..., 1]
    return (x * y.roll(-1, -1) - x.roll(-1, -1) * y).sum(-1).abs() / 2


def sphere_shadow(size: Tensor, position: Tensor, light: Light) -> tuple[Tensor, Tensor, Tensor]:
    """The ellipse in which the rays that touch a sphere meet the floor, ``[B]`` each: x (which is y
    too) of its centre, semi-axis along the diagonal x = y, and across."""
    q = position + START
    if not light.is_point:
        longer = (1 + 2 * q.square() / light.height**2).sqrt()
        return -q * size / light.height, size * longer, size
    # A cone of half-angle c around an axis tilted by a; its cut is a conic about the lamp's foot.
    drop = light.height - size
    distance = 2 * q.square() + drop.square()
    sin2, inside = size.square() / distance, (drop.square() - size.square()) / distance
    major = light.height * (sin2 * (1 - sin2)).sqrt() / inside
    minor = light.height * (sin2 / inside).sqrt()
    return q - light.height * q * drop / distance / inside, major, minor


def cylinder_shadow(size: Tensor, position: Tensor, light: Light) -> tuple[Tensor, Tensor]:
    """Shadow of the top disc, ``[B]`` each: x (which is y too) of its centre, and radius."""
    top, q = 2 * size, position + START
    if light.is_point:
        grown = light.height / (light.height - top)
        return q * (1 - grown), size * grown
    return -q * top / light.height, size


def _cylinder_area(size: Tensor, position: Tensor, light: Light) -> Tensor:
    """The hull of two discs, the base and the shadow of the top."""
    centre, wide = cylinder_shadow(size, position, light)
    apart = sqrt(2) * centre.abs()
    # Where one disc holds the other, the sine is 1 and only the larger one is left.
    sine = ((wide - size) / apart.clamp(min=1e-9)).clamp(max=1)
    flare, cosine = sine.asin(), (1 - sine.square()).sqrt()
    ends = wide.square() * (pi / 2 + flare) + size.square() * (pi / 2 - flare)
    return ends + apart * cosine * (wide + size)
