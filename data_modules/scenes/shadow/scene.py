"""The Shadow scenes: a coloured body in coloured light, and the shadow it throws on the floor.

The pictures re-create the Shadow data (Zhu et al., "Shadow Datasets, New challenging datasets for
Causal Representation Learning", arXiv 2308.05707) by our own ray caster: bodies, sizes, lights and
factors are the published ones, the pixels are not Blender's. Camera, colours and shading are ours,
chosen so that every factor can be measured; the published camera is not known to us.

Native units: ``size`` 0.4…1.6 (half the side of the cube), ``light_position`` 0…8 (the light
stands at −4 + position in x and y, 5 high as a sun, 8 high as a lamp), ``shadow_area`` in the
floor's units: the convex hull of the projected body, less the face it stands on. (Published areas
are measured in the picture instead, see :class:`data_modules.PublishedSunlightDataModule`.) A lamp
also brightens and colours the floor around ``spot_position``, naturally below it, in
``spot_colour``. Published files give two picture coordinates and RGB for these two; here they are
one number and one category, of which both are functions.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from data_modules.scenes.drawing import Rgb, checked_finite
from data_modules.scenes.shadow.geometry import (
    POINT,
    SHAPES,
    SUN,
    Light,
    footprint_area,
    hull_area,
    outline,
)
from data_modules.scenes.shadow.picture import (
    LIGHT_COLOURS,
    OBJECT_COLOURS,
    draw_shadow,
    occludes,
    shadow_scale,
)
from data_modules.scenes.shadow.readout import read_native
from diffcf.causal import CausalGraph, Factor, Scene

SIZES = tuple(round(0.4 + 0.2 * step, 1) for step in range(7))
POSITIONS = tuple(range(9))
SHAPE, OBJECT, SIZE, POSITION, LIGHT, AREA, FLOOR, SPOT, SPOT_COLOUR = range(9)
SLACK = 1e-4  # of a range, for rounding
MARGIN = 0.99  # of half the picture, that a visible shadow keeps to
SEEN_RIM = 0.15  # part of the rim of a changed shadow that the body must leave in sight


def natural_area(native: Tensor, light: Light) -> Tensor:
    """The mechanism of native ``shadow_area``, ``[B]``, for native factors ``[B, 5 or more]``."""
    shape, size, position = native[:, SHAPE].round().long(), native[:, SIZE], native[:, POSITION]
    return hull_area(shape, size, position, light) - footprint_area(shape, size)


@lru_cache(maxsize=2)
def published_grid(light: Light) -> Tensor:
    """Native factors of the 18,522 published pictures, float64 ``[18522, 7 or 9]``, in the order of
    the published loops: shape, object colour, size, light colour and, innermost, light position."""
    counts = (range(len(SHAPES)), range(len(OBJECT_COLOURS)), SIZES, range(6), POSITIONS)
    loops = [torch.tensor(list(values), dtype=torch.float64) for values in counts]
    shape, colour, size, tint, position = torch.cartesian_prod(*loops).unbind(1)
    native = torch.stack([shape, colour, size, position, tint, shape, tint], dim=1)
    native[:, AREA] = natural_area(native, light).clamp(min=0)
    return torch.cat([native, native[:, [POSITION, LIGHT]]], 1) if light.is_point else native


def _graph(light: Light) -> CausalGraph:
    colours = tuple(LIGHT_COLOURS)
    last = POSITIONS[-1]
    factors = [
        Factor("shape", "categorical", categories=SHAPES),
        Factor("object_colour", "categorical", categories=tuple(OBJECT_COLOURS)),
        Factor("size", "continuous", SIZES[0], SIZES[-1]),
        Factor("light_position", "continuous", 0, last),
        Factor("light_colour", "categorical", categories=colours),
        Factor("shadow_area", "continuous", 0, float(published_grid(light)[:, AREA].max())),
        Factor("floor_colour", "categorical", categories=colours),
    ]
    edges = [(cause, "shadow_area") for cause in ("shape", "size", "light_position")]
    edges.append(("light_colour", "floor_colour"))
    if light.is_point:
        factors.append(Factor("spot_position", "continuous", 0, last))
        factors.append(Factor("spot_colour", "categorical", categories=colours))
        edges += [("light_position", "spot_position"), ("light_colour", "spot_colour")]
    return CausalGraph(factors, edges)


class ShadowScene(Scene):
    """What both lights share; use :class:`SunlightScene` or :class:`PointlightScene`.

    In the published data every effect is a function of its causes, so all exogenous noise is zero
    there. Elsewhere, after an effect was set by an intervention:

    - shadow area and spot position have additive noise, u = value − f(causes); a predicted area is
      at least 0;
    - floor and spot colour have the noise (colour − light colour) mod 6, a step around the circle
      of the six colours, which is zero where they agree.

    An area that is not the natural one is drawn by enlarging the natural shadow about the origin,
    until the part outside the footprint has that area.
    """

    image_sizes = (32, 64, 96, 128, 256)
    light: Light

    def __init__(self) -> None:
        self.graph = _graph(self.light)

    def published_grid(self) -> Tensor:
        """Scaled factors ``[18522, K]`` of the published pictures, in their order."""
        return self.graph.to_scaled(published_grid(self.light)).float()

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """See :meth:`Scene.counterfactual`."""
        acted = torch.where(mask, values, factors)
        before, after = self.graph.to_native(factors), self.graph.to_native(acted)
        predicted = after.clone()
        area = before[:, AREA] - natural_area(before, self.light) + natural_area(after, self.light)
        predicted[:, AREA] = area.clamp(min=0)
        moved = torch.zeros_like(mask)
        moved[:, AREA] = mask[:, [SHAPE, SIZE, POSITION]].any(1)
        for child in (FLOOR, SPOT_COLOUR)[: 2 if self.light.is_point else 1]:
            predicted[:, child] = (before[:, child] + after[:, LIGHT] - before[:, LIGHT]) % 6
            moved[:, child] = mask[:, LIGHT]
        if self.light.is_point:
            predicted[:, SPOT] = before[:, SPOT] + after[:, POSITION] - before[:, POSITION]
            moved[:, SPOT] = mask[:, POSITION]
        return torch.where(moved & ~mask, self.graph.to_scaled(predicted), acted)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Scene.render`; ``image_size`` is one of ``image_sizes``, else ValueError."""
        self.checked_size(image_size)
        native = checked_finite(self.graph.to_native(factors.float()))
        body = _colour(OBJECT_COLOURS, native[:, OBJECT]) * _colour(LIGHT_COLOURS, native[:, LIGHT])
        floor = _colour(LIGHT_COLOURS, native[:, FLOOR])
        columns = [SHAPE, SIZE, POSITION, AREA, SPOT if self.light.is_point else POSITION]
        spot = _colour(LIGHT_COLOURS, native[:, SPOT_COLOUR]) if self.light.is_point else floor
        return draw_shadow(native[:, columns], body, floor, spot, image_size, self.light)

    def read(self, images: Tensor) -> Tensor:
        """See :meth:`Scene.read`; without a body its factors read 0, without a floor the others.

        Measured at 64 pixels on visible factors: categories are right; of their ranges, size and
        spot are exact to .001 on average, shadow area to .001 and light position to .003 (at worst
        .01, .003, .03 and .05). The light position of small bodies is the least certain, and under
        the tetrahedron little more than the shading of one face depends on it. An area within that
        error of the natural one reads as natural, as does a shadow wholly behind its body.
        """
        self.checked_size(images.shape[-1])
        return self.graph.to_scaled(read_native(images, self.light)).nan_to_num(nan=0.0)

    def visible(self, factors: Tensor) -> Tensor:
        """``[B]`` bool: factors in range, and a possible shadow inside the picture, in sight.

        A shadow of the natural area may hide behind its body; a changed one must show some rim.
        """
        native = self.graph.to_native(factors.float())
        inside = ((factors >= -SLACK) & (factors <= 1 + SLACK)).all(1)
        shapes = native[:, SHAPE].round().long().clamp(0, len(SHAPES) - 1)
        for shape in shapes.unique().tolist():
            for rows in (inside & (shapes == shape)).nonzero()[:, 0].split(1024):
                inside[rows] = self._shadow_in_sight(shape, native[rows])
        return inside

    def _shadow_in_sight(self, shape: int, native: Tensor) -> Tensor:
        """``[B]`` bool, for native factors ``[B, K]`` of one shape."""
        camera, size, position = self.light.camera, native[:, SIZE], native[:, POSITION]
        shapes = torch.full_like(size, shape).long()
        scale = shadow_scale(shapes, size, position, native[:, AREA], self.light)
        shadow = self.light.project(outline(shape, size), position) * scale[:, None, None]
        inside = (camera.locate(pad(shadow, (0, 1))).abs() <= MARGIN).flatten(1).all(1)
        angle = torch.arange(64, device=native.device) * (2 * torch.pi / 64)
        outward = torch.stack([angle.cos(), angle.sin()])
        furthest = (shadow @ outward).argmax(1)
        rim = shadow.gather(1, furthest[..., None].expand(-1, -1, 2))
        eye = camera.origin.to(native)
        hidden = occludes(shape, size, rim, (eye[:2] - rim) / eye[2])
        natural = (scale - 1).abs() < 1e-3
        return inside & (natural | ((~hidden).float().mean(1) >= SEEN_RIM))


class SunlightScene(ShadowScene):
    """Seven factors; parallel light, an evenly lit floor."""

    light = SUN


class PointlightScene(ShadowScene):
    """Nine factors; a lamp whose light falls off, and the bright spot on the floor below it."""

    light = POINT


def _colour(colours: dict[str, Rgb], index: Tensor) -> Tensor:
    """RGB ``[B, 3]`` of the colours at ``index`` ``[B]``."""
    table = torch.tensor(list(colours.values()), device=index.device)
    return table[index.round().long().clamp(0, len(table) - 1)]
