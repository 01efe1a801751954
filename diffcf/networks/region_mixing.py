r"""Region mixing: composites of two training images, and their labels.

In observational data the shadow is a function of pendulum and sun, so nothing in the data
contradicts a network that reads, or draws, the shadow from them. Composites do: a region of one
image pasted into another shows factor combinations that observation never shows.

Candidate cuts are all straight ones and some random rectangles. They are chosen by which factors
they transfer and by how little texture lies along their seam (the energy of Avidan & Shamir, 2007):
they run between objects, not through them, where a spliced object would look whole and be
mislabelled.

- The projector's attention says where each of the two images shows a factor, hence which factors a
  cut transfers. A random contrast between factors is drawn, and the cut that fits it best is taken;
  so factors that are easily separated do not crowd out those that are not.
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
        attention = _attention(projector, image)
        ours, theirs = _kept_attention(attention, other, cuts)
        by_texture = torch.rand_like(share[:, :1]) < 0.5
        missed = (share - torch.rand_like(share[:, :1])).abs()
        cost = torch.where(by_texture, missed, _misfit(theirs - ours)) + self.seam_cost * seam
        region = cuts.pick(cost.argmin(dim=1)).region()
        tried = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        tried[self._tried(len(image), image.device)] = True
        region = region & tried[:, None, None]
        mixed = torch.where(region[:, None], image[other], image)
        grid = (attention.shape[-2], attention.shape[-1])
        inside = F.adaptive_avg_pool2d(region[:, None].float(), grid) > 0.5
        labels = factors[:, :, None, None]
        return mixed, torch.where(inside, labels[other], labels)

    def for_generator(self, image: Tensor, factors: Tensor, projector: LocalProjector) -> Composite:
        """Composites that qualify; elsewhere the image itself with its own factors."""
        other = torch.randperm(len(image), device=image.device)
        cuts, _, seam = self._cuts(image, other)
        from_other, decided = self._decided(
            *_kept_attention(_attention(projector, image), other, cuts)
        )
        decided &= seam < self.seam_limit
        cost = _misfit(2.0 * from_other - 1.0) + self.seam_cost * seam
        best = cost.masked_fill(~decided, torch.inf).argmin(dim=1)
        region = cuts.pick(best).region()
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
        with torch.no_grad():
            reading = projector(image, image.new_zeros(len(image)))
        # An unsure reading is no contradiction: to demand a sure one would leave out whatever is
        # hard to read, and the generator would never see it combined anew.
        allowed = reading.variance + self.tolerance**2
        code = projector.graph.encode(labels)
        return ((reading.mean - code).square() < allowed).all(dim=1)

    def _cuts(self, image: Tensor, other: Tensor) -> tuple[Rectangles, Tensor, Tensor]:
        """Cuts, the share of texture within each and the share on its seam, ``[B, N]``."""
        size = (int(image.shape[-2]), int(image.shape[-1]))
        cuts = Rectangles.random((len(image), self.cuts), size, image.device)
        cuts = cuts.join(Rectangles.halves(len(image), size, image.device))
        # What all images share (walls, a frame) is no texture, and no seam.
        texture = _texture(image) * (image.std(dim=0) > STILL).any(dim=0)
        texture = texture + texture[other] + (image - image[other]).abs().mean(dim=1)
        total = texture.sum(dim=(1, 2)).clamp_min(1e-6)[:, None]
        return cuts, sum_within(texture, cuts) / total, sum_along(texture, cuts) / total

    def _tried(self, count: int, device: torch.device) -> Tensor:
        """The images out of ``count`` to be mixed: the share ``fraction`` of them, at random.

        As many in every batch: a size that varies would have the host wait for the device, and
        fragment the memory of a CPU.
        """
        return torch.randperm(count, device=device)[: round(self.fraction * count)]

    def _decided(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Which factors each cut takes from the other image, ``[B, K, N]``; is it decided?

        Decided, ``[B, N]``, are cuts under which, for every factor, the place where one image shows
        it is in the composite and the place where the other shows it is not; and each image
        supplies at least one factor.
        """
        own = (ours > 1 - self.remainder) & (theirs < self.remainder)
        partner = (theirs > 1 - self.remainder) & (ours < self.remainder)
        return partner, (own | partner).all(dim=1) & own.any(dim=1) & partner.any(dim=1)


def _attention(projector: LocalProjector, image: Tensor) -> Tensor:
    """Where the projector reads each factor of clean images, ``[B, K, h, w]``."""
    with torch.no_grad():
        return projector(image, image.new_zeros(len(image))).attention


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

    def along(table: Tensor, line: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return _at(table, line, end) - _at(table, line, start)

    rows, columns = _edge_sums(values), _edge_sums(values.mT)
    return (
        along(rows, cuts.top, cuts.left, cuts.right)
        + along(rows, cuts.bottom, cuts.left, cuts.right)
        + along(columns, cuts.left, cuts.top, cuts.bottom)
        + along(columns, cuts.right, cuts.top, cuts.bottom)
    )


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
