"""Matplotlib's default axes on a 1×1 inch figure: from a scene's units to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import TypeVar

from torch import Tensor

__all__ = ["IMAGE_SIZES", "Frame"]

Number = TypeVar("Number", float, Tensor)

IMAGE_SIZES = (32, 64, 96, 128)
# Where matplotlib puts the axes, as parts of the figure: left, right, bottom, top.
SUBPLOT = (0.125, 0.9, 0.11, 0.88)


@dataclass(frozen=True)
class Frame:
    """The map from native units (both axes upward from their first limit) to pixels.

    Raises:
        ValueError: when ``image_size`` is not one of :data:`IMAGE_SIZES`.
    """

    image_size: int
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            sizes = ", ".join(map(str, IMAGE_SIZES))
            raise ValueError(f"image_size {self.image_size} is not drawn: use one of {sizes}.")

    @property
    def unit_x(self) -> float:
        share = SUBPLOT[1] - SUBPLOT[0]
        return self.image_size * share / (self.x_limits[1] - self.x_limits[0])

    @property
    def unit_y(self) -> float:
        share = SUBPLOT[3] - SUBPLOT[2]
        return self.image_size * share / (self.y_limits[1] - self.y_limits[0])

    @property
    def point(self) -> float:
        """Pixels in one typographic point: the figure is an inch wide, so dpi = image_size."""
        return self.image_size / 72

    def x(self, native: Number) -> Number:
        return self.image_size * SUBPLOT[0] + self.unit_x * (native - self.x_limits[0])

    def y(self, native: Number) -> Number:
        return self.image_size * SUBPLOT[2] + self.unit_y * (native - self.y_limits[0])

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The clip rectangle in whole pixels: left, right, bottom, top."""
        left, right, bottom, top = (floor(self.image_size * side + 0.5) for side in SUBPLOT)
        return left, right, bottom, top

    def pixels(self, low: float, high: float, axis: str) -> tuple[int, int]:
        """First and one-past-last pixel inside the box that ``[low, high]`` touches."""
        left, right, bottom, top = self.box
        first, last = (left, right) if axis == "x" else (bottom, top)
        start = min(max(floor(low), first), last)
        return start, max(min(floor(high) + 1, last), start)
