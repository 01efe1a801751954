"""Many rectangles of an image at once, and sums within and along them, by integral images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Rectangles", "sum_along", "sum_within"]


class Rectangles(NamedTuple):
    """Pixel bounds, ``[B, N]`` each: rows ``top <= r < bottom``, columns ``left <= c < right``."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor
    size: tuple[int, int]

    @classmethod
    def random(
        cls, shape: tuple[int, int], size: tuple[int, int], device: torch.device
    ) -> Rectangles:
        """``shape`` B × N random rectangles of an image of ``size`` H × W."""
        low, high = torch.rand(2, 2, *shape, device=device).sort(dim=0).values
        bounds = (low[0] * size[0], high[0] * size[0], low[1] * size[1], high[1] * size[1])
        return cls._make([*(bound.round().long() for bound in bounds), size])

    @classmethod
    def halves(cls, count: int, size: tuple[int, int], device: torch.device) -> Rectangles:
        """All that is above a row or left of a column, ``count`` times the same H + W - 2."""
        rows = torch.arange(1, size[0], device=device)
        columns = torch.arange(1, size[1], device=device)
        bottom = torch.cat([rows, torch.full_like(columns, size[0])])
        right = torch.cat([torch.full_like(rows, size[1]), columns])
        zero = torch.zeros_like(bottom)
        bounds = (zero, bottom, zero, right)
        return cls._make([*(bound.expand(count, -1) for bound in bounds), size])

    def join(self, other: Rectangles) -> Rectangles:
        """Both sets of rectangles for each sample."""
        pairs = zip(self[:4], other[:4], strict=True)
        return Rectangles._make([*(torch.cat(pair, dim=1) for pair in pairs), self.size])

    def pick(self, choice: Tensor) -> Rectangles:
        """One rectangle for each sample: ``choice`` ``[B]`` → bounds ``[B]``."""
        picked = (bound.gather(1, choice[:, None])[:, 0] for bound in self[:4])
        return Rectangles._make([*picked, self.size])

    def region(self) -> Tensor:
        """Bounds ``[B]`` as ``[B, H, W]`` bool."""
        rows = torch.arange(self.size[0], device=self.top.device)
        columns = torch.arange(self.size[1], device=self.top.device)
        in_rows = (rows >= self.top[:, None]) & (rows < self.bottom[:, None])
        in_columns = (columns >= self.left[:, None]) & (columns < self.right[:, None])
        return in_rows[:, :, None] & in_columns[:, None, :]


def sum_within(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, (K,) H, W]`` in each rectangle, ``[B, (K,) N]``: integral images."""
    integral = F.pad(values.cumsum(dim=-2).cumsum(dim=-1), (1, 0, 1, 0))
    return (
        _at(integral, cuts.bottom, cuts.right)
        - _at(integral, cuts.top, cuts.right)
        - _at(integral, cuts.bottom, cuts.left)
        + _at(integral, cuts.top, cuts.left)
    )


def sum_along(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, H, W]`` on both sides of every rectangle's edge, ``[B, N]``."""
    horizontal, vertical = _edge_sums(values), _edge_sums(values.mT)
    rows = [
        _at(horizontal, row, cuts.right) - _at(horizontal, row, cuts.left)
        for row in (cuts.top, cuts.bottom)
    ]
    columns = [
        _at(vertical, column, cuts.bottom) - _at(vertical, column, cuts.top)
        for column in (cuts.left, cuts.right)
    ]
    return rows[0] + rows[1] + columns[0] + columns[1]


def _edge_sums(values: Tensor) -> Tensor:
    """``[B, H + 1, W + 1]``: values across the edge above row r, summed over columns before c.

    The picture's own border is no seam, hence zeros there.
    """
    across = F.pad(values[:, 1:] + values[:, :-1], (0, 0, 1, 1))
    return F.pad(across.cumsum(dim=2), (1, 0))


def _at(table: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Entries ``[B, (K,) N]`` of ``[B, (K,) R, C]`` at rows and columns ``[B, N]``."""
    place = row * table.shape[-1] + column
    if table.dim() == 4:
        place = place[:, None].expand(-1, table.shape[1], -1)
    return table.flatten(-2).gather(-1, place)
