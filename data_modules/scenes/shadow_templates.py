"""Pictures of all bodies in white light, to find shape, size and light position by comparison."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from data_modules.scenes.shadow_light import Light
from data_modules.scenes.shadow_picture import body_maps
from data_modules.scenes.shadow_shapes import SHAPES

__all__ = ["Bodies", "bodies"]

SIZE_STEP, POSITION_STEP = 0.05, 1.0
SIZES = tuple(0.3 + SIZE_STEP * step for step in range(29))
POSITIONS = tuple(-1.0 + POSITION_STEP * step for step in range(11))


@dataclass(frozen=True)
class Bodies:
    """Templates on a grid of shapes, sizes and light positions.

    Attributes:
        shade: ``[7, sizes, positions, R]``, the weight of the body's colour in R pixels.
        cover: ``[7, sizes, R]``, how much of each pixel the body covers.
        window: rows and columns of the picture that the R pixels fill.
    """

    shade: Tensor
    cover: Tensor
    window: tuple[slice, slice]

    @property
    def window_shape(self) -> tuple[int, int]:
        rows, columns = self.window
        return rows.stop - rows.start, columns.stop - columns.start

    @staticmethod
    def size(place: Tensor) -> Tensor:
        """Native size of a place, whole or not, on the grid."""
        return SIZES[0] + SIZE_STEP * place

    @staticmethod
    def position(place: Tensor) -> Tensor:
        return POSITIONS[0] + POSITION_STEP * place


@lru_cache(maxsize=6)
def bodies(image_size: int, light: Light) -> Bodies:
    """All templates of a picture size; cast once, in a few seconds at 64 pixels."""
    size, position = torch.tensor(SIZES), torch.tensor(POSITIONS)
    grid = (len(SIZES), len(POSITIONS), image_size, image_size)
    # Cached tensors must serve autograd too, wherever the first read happened.
    with torch.inference_mode(False), torch.no_grad():
        shades, covers = [], []
        for shape in range(len(SHAPES)):
            sizes, positions = torch.cartesian_prod(size, position).unbind(1)
            shade, cover = body_maps(shape, sizes, positions, image_size, light)
            shades.append(shade.view(grid))
            covers.append(cover.view(grid)[:, 0])
        shade, cover = torch.stack(shades), torch.stack(covers)
        used = cover.amax((0, 1)) > 0
        window = (_span(used.any(1)), _span(used.any(0)))
        return Bodies(
            shade[:, :, :, *window].flatten(3).contiguous(),
            cover[:, :, *window].flatten(2).contiguous(),
            window,
        )


def _span(used: Tensor) -> slice:
    places = used.nonzero()[:, 0]
    return slice(int(places[0]), int(places[-1]) + 1)
