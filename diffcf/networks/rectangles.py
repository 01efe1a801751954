"""Rectangles of images, many at once, and sums over them and along their edges."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Rectangles(NamedTuple):
    """Rectangles of images of ``size`` H × W.

    ``bounds`` are ``[4, B, N]`` in pixels: top, left, and, outside, bottom, right.
    """

    bounds: Tensor
    size: tuple[int, int]

    @classmethod
    def random(
        cls, shape: tuple[int, int], size: tuple[int, int], device: torch.device
    ) -> Rectangles:
        """``shape`` B × N random rectangles."""
        rows, columns = torch.rand(2, 2, *shape, device=device).sort(dim=0).values.unbind(dim=1)
        ends = torch.stack([rows * size[0], columns * size[1]], dim=1)
        return cls(ends.round().long().flatten(0, 1), size)

    @classmethod
    def halves(cls, count: int, size: tuple[int, int], device: torch.device) -> Rectangles:
        """All that is above a row or left of a column, ``count`` times the same H + W - 2."""
        row, column = (torch.arange(1, side, device=device) for side in size)
        bottom = torch.cat([row, torch.full_like(column, size[0])])
        right = torch.cat([torch.full_like(row, size[1]), column])
        zero = torch.zeros_like(right)
        return cls(torch.stack([zero, zero, bottom, right])[:, None].expand(-1, count, -1), size)

    def regions(self, choice: Tensor) -> Tensor:
        """One rectangle for each sample, by its index ``[B]``, as ``[B, H, W]`` bool."""
        index = choice[None, :, None].expand(4, -1, 1)
        top, left, bottom, right = self.bounds.gather(2, index)
        rows, columns = (torch.arange(side, device=choice.device) for side in self.size)
        in_rows, in_columns = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)
        return in_rows[:, :, None] & in_columns[:, None, :]


def sum_within(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, (K,) H, W]`` in each rectangle, ``[B, (K,) N]``: integral images."""
    integral = F.pad(values.cumsum(dim=-2).cumsum(dim=-1), (1, 0, 1, 0))
    top, left, bottom, right = cuts.bounds
    rows, columns = torch.stack([bottom, top, bottom, top]), torch.stack([right, right, left, left])
    whole, above, before, both = _at(integral, rows, columns)
    return whole - above - before + both


def sum_along(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, H, W]`` on both sides of every rectangle's edge, ``[B, N]``."""
    top, left, bottom, right = cuts.bounds
    ends = torch.stack([top, bottom, top, bottom]), torch.stack([left, left, right, right])
    across = _at(_edge_sums(values), *ends)
    ends = torch.stack([left, right, left, right]), torch.stack([top, top, bottom, bottom])
    along = _at(_edge_sums(values.mT), *ends)
    return (across[2:] - across[:2] + along[2:] - along[:2]).sum(dim=0)


def _edge_sums(values: Tensor) -> Tensor:
    """``[B, H + 1, W + 1]``: values across the edge above row r, summed over columns before c.

    The picture's own border is no seam, hence zeros there.
    """
    across = F.pad(values[:, 1:] + values[:, :-1], (0, 0, 1, 1))
    return F.pad(across.cumsum(dim=2), (1, 0))


def _at(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Entries ``[P, B, (K,) N]`` of ``table`` ``[B, (K,) R, C]``.

    They are those at ``rows`` and ``columns``, ``[P, B, N]`` each: P points of N rectangles.
    """
    place = (rows * table.shape[-1] + columns).transpose(0, 1).flatten(1)
    if table.dim() == 4:
        place = place[:, None].expand(-1, table.shape[1], -1)
    found = table.flatten(-2).gather(-1, place)
    return found.unflatten(-1, (len(rows), -1)).movedim(-2, 0)
