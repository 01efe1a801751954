"""The seven bodies of the Shadow data and the areas of their shadows on the floor.

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
from functools import lru_cache
from itertools import combinations, product
from math import cos, pi, sin, sqrt

import torch
from torch import Tensor

from data_modules.scenes.shadow.rays import START, Light

SHAPES = ("cube", "sphere", "cylinder", "tetrahedron", "octahedron", "dodecahedron", "icosahedron")
SPHERE, CYLINDER = SHAPES.index("sphere"), SHAPES.index("cylinder")
ROUND_POINTS = 32  # on each circle of an outline


@dataclass(frozen=True)
class Polyhedron:
    """A convex body of size 1, the points with ``normals[f] · x ≤ offsets[f]`` for all f.

    Attributes:
        vertices: ``[V, 3]``.
        faces: ``[F, n]``, the vertices of each face, in turn.
        normals: ``[F, 3]``, outward, of unit length.
        offsets: ``[F]``.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    offsets: Tensor


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


def footprint_area(shape: Tensor, size: Tensor) -> Tensor:
    """Area ``[B]`` of the face on which bodies of ``shape`` ``[B]`` (place in SHAPES) stand."""
    unit = torch.zeros(len(SHAPES), dtype=size.dtype, device=size.device)
    unit[CYLINDER] = pi
    for place, body in POLYHEDRA.items():
        face = body.vertices[body.faces[body.normals[:, 2].argmin()]].to(unit)
        if face[:, 2].max() < 1e-4:
            unit[place] = _polygon_area(face)
    return unit[shape] * size.square()


def hull_area(shape: Tensor, size: Tensor, position: Tensor, light: Light) -> Tensor:
    """Area ``[B]`` of the whole shadow on the floor, the ground below the body included.

    Args:
        shape: ``[B]`` int64, places in :data:`SHAPES`.
        size: ``[B]``, half the side of a cube.
        position: ``[B]``, of the light.
    """
    area = torch.zeros_like(size)
    for place in shape.unique().tolist():
        rows = (shape == place).nonzero()[:, 0]
        some, at = size[rows], position[rows]
        if place == SPHERE:
            _, along, across = sphere_shadow(some, at, light)
            area[rows] = pi * along * across
        elif place == CYLINDER:
            area[rows] = _cylinder_area(some, at, light)
        else:
            body = POLYHEDRA[place]
            shadow = light.project(body.vertices.to(some) * some[:, None, None], at)
            # Each ray enters and leaves the body once: faces cover its shadow twice.
            area[rows] = _polygon_area(shadow[:, body.faces.to(rows.device)]).sum(1) / 2
    return area


def _polygon_area(corners: Tensor) -> Tensor:
    """Area of polygons ``[..., n, 2 or 3]`` in the plane of x and y."""
    x, y = corners[..., 0], corners[..., 1]
    return (x * y.roll(-1, -1) - x.roll(-1, -1) * y).sum(-1).abs() / 2


def sphere_shadow(size: Tensor, position: Tensor, light: Light) -> tuple[Tensor, Tensor, Tensor]:
    """The ellipse in which the rays that touch a sphere meet the floor.

    Returns:
        x (which is y too) of the centre, semi-axis along the diagonal x = y, semi-axis across.
    """
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
    """Shadow of the top disc: x (which is y too) of its centre, and radius."""
    top = 2 * size
    q = position + START
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


def outline(shape: int, size: Tensor) -> Tensor:
    """Points ``[B, N, 3]`` whose shadows span the shadow of the body, for sizes ``[B]``.

    Corners; of a cylinder both rims; of a sphere a net on it, whose shadow is a little too small.
    """
    if shape in POLYHEDRA:
        unit = POLYHEDRA[shape].vertices.to(size)
    else:
        around = torch.arange(ROUND_POINTS, device=size.device, dtype=size.dtype)
        around = around * (2 * pi / ROUND_POINTS)
        if shape == CYLINDER:
            levels = [(1.0, 0.0), (1.0, 2.0)]
        else:
            steps = range(1, ROUND_POINTS // 2)
            levels = [(sin(t), 1 - cos(t)) for t in (2 * pi * i / ROUND_POINTS for i in steps)]
        circle = torch.stack([around.cos(), around.sin()], -1)
        unit = torch.cat(
            [torch.cat([r * circle, torch.full_like(circle[:, :1], z)], -1) for r, z in levels]
        )
    return unit * size[:, None, None]


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
