r"""Region mixing: composites of two training images, and their labels.

In observational data the shadow is a function of pendulum and sun, so nothing contradicts a network
that reads, or draws, the shadow from them. Composites do: a region of one image pasted into another
shows factor combinations that observation never shows.

Candidate cuts are all straight ones and some random rectangles. They are chosen by which factors
they transfer and by how little texture lies along their seam (the energy of Avidan & Shamir, 2007):
cut through, an object would look whole and be mislabelled.

- The projector's attention says where each of the two images shows a factor, hence which factors a
  cut transfers. The cut that best fits a random contrast between factors is taken; so factors that
  are easily separated do not crowd out those that are not.
- For the projector, every place of a composite is labelled by the image that supplied it. While
  attention is still learning, cuts chosen by it would confirm its errors, so half of these
  composites ignore it: they transfer a share f of all texture, f uniform in [0, 1].
- For the generator, a composite needs a right label for *every* factor: it must show each factor
  from exactly one of its two images, and the projector, reading the composite, must not contradict
  the label. Otherwise (two suns, no sun, a shadow cut in two) the image itself is used.

Only observational images and their labels enter. Our reconstruction; region mixing after CutMix
(Yun et al., 2019, https://arxiv.org/abs/1905.04899).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import LocalPosterior
from diffcf.networks.projector import LocalProjector

STILL = 0.02  # standard deviation over a batch below which a pixel is the same in all images


class Composite(NamedTuple):
    """Images ``[B, C, H, W]``, factors ``[B, K]`` and which were really mixed ``[B]`` (bool)."""

    image: Tensor
    factors: Tensor
    mixed: Tensor


class RegionMixer(nn.Module):
    """Makes composites from a batch.

    Args:
        fraction: share of the projector's batch that is mixed, and of the generator's that is
            tried.
        cuts: random rectangles that are candidates, beside all straight cuts.
        seam_cost: weight of the share of texture that lies on the seam.
        seam_limit: the share above which a cut is not good enough for the generator.
        remainder: attention to a factor that a composite for the generator may lose from the image
            that supplies it, and keep of the other.
        tolerance: how far, in [0, 1] units and beyond its own standard deviation, the reading of
            a composite may be from the label.
    """

    def __init__(
        self,
        fraction: float = 0.8,
        cuts: int = 64,
        seam_cost: float = 5.0,
        seam_limit: float = 0.04,
        remainder: float = 0.1,
        tolerance: float = 0.02,
    ) -> None:
        super().__init__()
        self.fraction, self.cuts = fraction, cuts
        self.seam_cost, self.seam_limit = seam_cost, seam_limit
        self.remainder, self.tolerance = remainder, tolerance

    def for_projector(
        self, image: Tensor, factors: Tensor, projector: LocalProjector
    ) -> tuple[Tensor, Tensor]:
        """Composites ``[B, C, H, W]`` and every place's label ``[B, K, h, w]``."""
        other = torch.randperm(len(image), device=image.device)
        cuts, share, seam = self._cuts(image, other)
        attention = _read(projector, image).attention
        ours, theirs = _kept_attention(attention, other, cuts)
        by_texture = torch.rand_like(share[:, :1]) < 0.5
        missed = (share - torch.rand_like(share[:, :1])).abs()
        cost = torch.where(by_texture, missed, _misfit(theirs - ours)) + self.seam_cost * seam
        region = cuts.regions(cost.argmin(dim=1))
        tried = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        tried[self._tried(len(image), image.device)] = True
        region = (region & tried[:, None, None])[:, None]
        mixed = torch.where(region, image[other], image)
        grid = (attention.shape[-2], attention.shape[-1])
        inside = F.adaptive_avg_pool2d(region.float(), grid) > 0.5
        labels = factors[:, :, None, None]
        return mixed, torch.where(inside, labels[other], labels)

    def for_generator(self, image: Tensor, factors: Tensor, projector: LocalProjector) -> Composite:
        """Composites that qualify; elsewhere the image itself with its own factors."""
        other = torch.randperm(len(image), device=image.device)
        cuts, _, seam = self._cuts(image, other)
        attention = _read(projector, image).attention
        from_other, decided = self._decided(*_kept_attention(attention, other, cuts))
        decided &= seam < self.seam_limit
        cost = _misfit(2.0 * from_other - 1.0) + self.seam_cost * seam
        best = cost.masked_fill(~decided, torch.inf).argmin(dim=1)
        region = cuts.regions(best)
        rows = self._tried(len(image), image.device)
        taken = from_other[rows].gather(2, best[rows, None, None].expand(-1, factors.shape[1], 1))
        candidate = torch.where(region[rows, None], image[other[rows]], image[rows])
        labels = torch.where(taken[:, :, 0], factors[other[rows]], factors[rows])
        qualified = decided.any(dim=1) & region.flatten(1).any(dim=1)
        kept = qualified[rows] & self._agrees(projector, candidate, labels)
        image, factors = image.clone(), factors.clone()
        image[rows] = torch.where(kept[:, None, None, None], candidate, image[rows])
        factors[rows] = torch.where(kept[:, None], labels, factors[rows])
        mixed = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        mixed[rows] = kept
        return Composite(image, factors, mixed)

    def _agrees(self, projector: LocalProjector, image: Tensor, labels: Tensor) -> Tensor:
        """``[B]`` bool: the reading of the composite does not contradict any label."""
        reading = _read(projector, image)
        # An unsure reading is no contradiction: to demand a sure one would leave out whatever is
        # hard to read, and the generator would never see it combined anew.
        allowed = reading.variance + self.tolerance**2
        code = projector.graph.encode(labels)
        return ((reading.mean - code).square() < allowed).all(dim=1)

    def _cuts(self, image: Tensor, other: Tensor) -> tuple[Rectangles, Tensor, Tensor]:
        """Cuts, the share of texture within each and the share on its seam, ``[B, N]``."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        some = Rectangles.random((len(image), self.cuts), size, image.device)
        straight = Rectangles.halves(len(image), size, image.device)
        cuts = Rectangles(torch.cat([some.bounds, straight.bounds], dim=2), size)
        # What all images share (walls, a frame) is no texture, and no seam.
        texture = _texture(image) * (image.std(dim=0) > STILL).any(dim=0)
        texture = texture + texture[other] + (image - image[other]).abs().mean(dim=1)
        total = texture.sum(dim=(1, 2)).clamp_min(1e-6)[:, None]
        return cuts, sum_within(texture, cuts) / total, sum_along(texture, cuts) / total

    def _tried(self, count: int, device: torch.device) -> Tensor:
        """The images out of ``count`` to be mixed: the share ``fraction`` of them, at random."""
        # As many in every batch: a size that varies would have the host wait for the device, and
        # fragment the memory of a CPU.
        return torch.randperm(count, device=device)[: round(self.fraction * count)]

    def _decided(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Which factors each cut takes from the other image, ``[B, K, N]``; is it decided?

        ``[B, N]``: it is if, of every factor, the composite keeps the place where one image shows
        it and not that where the other does, and if each image supplies at least one factor.
        """
        own = (ours > 1 - self.remainder) & (theirs < self.remainder)
        partner = (theirs > 1 - self.remainder) & (ours < self.remainder)
        return partner, (own | partner).all(dim=1) & own.any(dim=1) & partner.any(dim=1)


@torch.no_grad()
def _read(projector: LocalProjector, image: Tensor) -> LocalPosterior:
    """The projector's posterior of clean images."""
    return projector(image, image.new_zeros(len(image)))


def _kept_attention(attention: Tensor, other: Tensor, cuts: Rectangles) -> tuple[Tensor, Tensor]:
    """Attention to each image that each cut keeps in the composite, ``[B, K, N]`` each."""
    patch = cuts.size[0] // attention.shape[-2]
    pixels = attention.repeat_interleave(patch, 2).repeat_interleave(patch, 3) / patch**2
    return 1 - sum_within(pixels, cuts), sum_within(pixels[other], cuts)


def _misfit(taken: Tensor) -> Tensor:
    """How far each cut falls short of a random contrast between factors, ``[B, N]``.

    ``taken`` ``[B, K, N]`` is 1 where a factor comes from the other image, -1 where it stays. The
    contrast sums to 0 over factors, so that transferring all, or nothing, never fits.
    """
    contrast = torch.randn_like(taken[:, :, :1])
    contrast = F.normalize(contrast - contrast.mean(dim=1, keepdim=True), dim=1)
    return -(contrast * taken).sum(dim=1)


def _texture(image: Tensor) -> Tensor:
    """How much each pixel of ``[B, C, H, W]`` differs from its neighbours, ``[B, H, W]``."""
    down = F.pad(image.diff(dim=-2), (0, 0, 0, 1)).abs()
    right = F.pad(image.diff(dim=-1), (0, 1)).abs()
    return (down + right).mean(dim=1)


# --- rectangles ---


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
    below = _at(integral, bottom, right) - _at(integral, top, right)
    return below - _at(integral, bottom, left) + _at(integral, top, left)


def sum_along(values: Tensor, cuts: Rectangles) -> Tensor:
    """Sum of ``values`` ``[B, H, W]`` on both sides of every rectangle's edge, ``[B, N]``."""
    top, left, bottom, right = cuts.bounds
    rows, columns = _edge_sums(values), _edge_sums(values.mT)
    total = _at(rows, top, right) - _at(rows, top, left)
    total = total + (_at(rows, bottom, right) - _at(rows, bottom, left))
    total = total + (_at(columns, left, bottom) - _at(columns, left, top))
    return total + (_at(columns, right, bottom) - _at(columns, right, top))


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
