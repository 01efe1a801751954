r"""Region mixing: composites of two training images, and what they are labelled.

In observational data the shadow is a function of pendulum and sun, so nothing in the data
contradicts a network that reads, or draws, the shadow from them. Composites do: a region of one
image pasted into another shows factor combinations that observation never shows.

A cut is chosen among random ones by what it changes: it should bring over a share f of all that
differs between the two images, f drawn evenly from [0, 1], with little contrast along its seam. So
cuts fall between objects, and a narrow gap between two objects is cut as often as a wide one.

- For the projector every place of a composite answers for the image that supplied it.
- For the generator a composite needs a right label for *every* factor. The projector's attention
  says where each source image states it: exactly one of the two statements must have come into the
  composite, and the projector, reading the composite, must agree with it. Otherwise (two suns, no
  sun, a shadow cut in two) the image itself is used instead.

Only observational images and their labels enter. Our reconstruction; region mixing after CutMix
(Yun et al., 2019, https://arxiv.org/abs/1905.04899).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Composite", "Rectangles", "RegionMixer"]


class Composite(NamedTuple):
    """Images ``[B, C, H, W]``, factors ``[B, K]`` and which were really mixed ``[B]`` (bool)."""

    image: Tensor
    factors: Tensor
    mixed: Tensor


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
        """Half-planes (half of them, cut along either axis) and rectangles, of an H × W image."""
        low, high = torch.rand(2, 2, *shape, device=device).sort(dim=0).values
        half_plane = torch.rand(shape, device=device) < 0.5
        along = torch.rand(shape, device=device) < 0.5
        # A half-plane is a rectangle that is open on three sides.
        low = torch.where(half_plane, 0.0, low)
        in_rows = torch.where(half_plane & ~along, 1.0, high[0])
        in_columns = torch.where(half_plane & along, 1.0, high[1])
        bounds = (low[0] * size[0], in_rows * size[0], low[1] * size[1], in_columns * size[1])
        return cls(*(bound.round().long() for bound in bounds), size)

    def pick(self, choice: Tensor) -> Rectangles:
        """One rectangle for each sample: ``choice`` ``[B]`` → bounds ``[B]``."""
        picked = (bound.gather(1, choice[:, None])[:, 0] for bound in self[:4])
        return Rectangles(*picked, self.size)

    def region(self) -> Tensor:
        """Bounds ``[B]`` as ``[B, H, W]`` bool."""
        rows = torch.arange(self.size[0], device=self.top.device)
        columns = torch.arange(self.size[1], device=self.top.device)
        in_rows = (rows >= self.top[:, None]) & (rows < self.bottom[:, None])
        in_columns = (columns >= self.left[:, None]) & (columns < self.right[:, None])
        return in_rows[:, :, None] & in_columns[:, None, :]


class RegionMixer(nn.Module):
    """Makes composites from a batch.

    Args:
        fraction: share of the projector's batch that is mixed, and of the generator's that is
            tried.
        cuts: random cuts among which each composite's is chosen.
        seam_cost: how much contrast along the seam counts beside the share of change.
        remainder: attention that may be lost from the source that speaks for a factor, and left
            of the other, for a composite to train the generator.
        tolerance: how far, in [0, 1] units, the composite's reading may be from the label.
    """

    def __init__(
        self,
        fraction: float = 0.8,
        cuts: int = 64,
        seam_cost: float = 3.0,
        remainder: float = 0.1,
        tolerance: float = 0.05,
    ) -> None:
        super().__init__()
        self.fraction, self.cuts = fraction, cuts
        self.seam_cost, self.remainder, self.tolerance = seam_cost, remainder, tolerance

    def for_projector(self, image: Tensor, factors: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        """Composites ``[B, C, H, W]`` and every place's label ``[B, K, H / patch, W / patch]``."""
        other = torch.randperm(len(image), device=image.device)
        cuts, cost = self._cuts(image, image[other])
        region = self._tried(cuts.pick(cost.argmin(dim=1)).region())
        mixed = torch.where(region[:, None], image[other], image)
        share = F.avg_pool2d(region[:, None].float(), patch)
        ours, theirs = factors[:, :, None, None], factors[other][:, :, None, None]
        return mixed, torch.where(share > 0.5, theirs, ours)

    def for_generator(self, image: Tensor, factors: Tensor, projector: nn.Module) -> Composite:
        """Composites that qualify; elsewhere the image itself with its own factors."""
        other = torch.randperm(len(image), device=image.device)
        clean = image.new_zeros(len(image))
        cuts, cost = self._cuts(image, image[other])
        with torch.no_grad():
            from_other, decided = self._source(projector(image, clean).attention, other, cuts)
            best = cost.masked_fill(~decided, torch.inf).argmin(dim=1)
            region = self._tried(cuts.pick(best).region())
            rows = (decided.any(dim=1) & region.flatten(1).any(dim=1)).nonzero()[:, 0]
            chosen = from_other[rows, :, best[rows]]
            candidate = torch.where(region[rows, None], image[other[rows]], image[rows])
            labels = torch.where(chosen, factors[other[rows]], factors[rows])
            reading = projector(candidate, clean[rows])
        agrees = (reading.mean - labels).abs() < self.tolerance
        agrees &= reading.variance < (2 * self.tolerance) ** 2
        kept = agrees.all(dim=1)
        image, factors, mixed = image.clone(), factors.clone(), clean.bool()
        image[rows[kept]], factors[rows[kept]] = candidate[kept], labels[kept]
        mixed[rows[kept]] = True
        return Composite(image, factors, mixed)

    def _cuts(self, ours: Tensor, theirs: Tensor) -> tuple[Rectangles, Tensor]:
        """Random cuts and what each would cost, ``[B, N]``."""
        contrast = (ours - theirs).abs().mean(dim=1)
        cuts = Rectangles.random((len(ours), self.cuts), _size(ours), ours.device)
        within, seam = _sum_within(contrast, cuts), _sum_along(contrast, cuts)
        total = contrast.sum(dim=(1, 2)).clamp_min(1e-6)[:, None]
        wanted = torch.rand(len(ours), 1, device=ours.device)
        return cuts, (within / total - wanted).abs() + self.seam_cost * seam / total

    def _tried(self, region: Tensor) -> Tensor:
        """Regions ``[B, H, W]``, emptied but for the share ``fraction`` of the batch."""
        tried = torch.rand(len(region), device=region.device) < self.fraction
        return region & tried[:, None, None]

    def _source(self, attention: Tensor, other: Tensor, cuts: Rectangles) -> tuple[Tensor, Tensor]:
        """Under each cut: does the partner speak for a factor, ``[B, K, N]``; is it decided?

        Decided, ``[B, N]``, are cuts under which the place where one image states a factor is in
        the composite, and the place where the other image states it is not, for every factor; and
        each image speaks for at least one.
        """
        patch = cuts.size[0] // attention.shape[-2]
        pixels = attention.repeat_interleave(patch, 2).repeat_interleave(patch, 3) / patch**2
        ours_shown = 1 - _sum_within(pixels, cuts)
        theirs_shown = _sum_within(pixels[other], cuts)
        ours = (ours_shown > 1 - self.remainder) & (theirs_shown < self.remainder)
        theirs = (theirs_shown > 1 - self.remainder) & (ours_shown < self.remainder)
        decided = (ours | theirs).all(dim=1) & ours.any(dim=1) & theirs.any(dim=1)
        return theirs, decided


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])


def _sum_within(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, (K,) H, W]`` in each rectangle, ``[B, (K,) N]``: integral images."""
    integral = F.pad(values.cumsum(dim=-2).cumsum(dim=-1), (1, 0, 1, 0))
    return (
        _at(integral, cuts.bottom, cuts.right)
        - _at(integral, cuts.top, cuts.right)
        - _at(integral, cuts.bottom, cuts.left)
        + _at(integral, cuts.top, cuts.left)
    )


def _sum_along(values: Tensor, cuts: Rectangles) -> Tensor:
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
