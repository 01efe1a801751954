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

Missing labels (NaN) are never used: in a composite for the projector they are missing at the places
of their image, and no composite for the generator takes one.

Only training images and their labels enter. Our reconstruction; region mixing after CutMix
(Yun et al., 2019, https://arxiv.org/abs/1905.04899).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import LocalPosterior, attention_within
from diffcf.diffusion import shuffled
from diffcf.io import SettingsError
from diffcf.networks.projector import LocalProjector
from diffcf.networks.rectangles import Rectangles, sum_along, sum_within

STILL = 0.02  # standard deviation over a batch below which a pixel is the same in all images


class Composite(NamedTuple):
    """Images ``[B, C, H, W]``, factors ``[B, K]`` and which were really mixed ``[B]`` (bool)."""

    image: Tensor
    factors: Tensor
    mixed: Tensor


class Candidates(NamedTuple):
    """N cuts for each image of a batch, and what each would do.

    Attributes:
        other: ``[B]`` int64, the image whose region would be pasted.
        cuts: the regions.
        share, seam: of all texture, how much lies in the region and on its edge, ``[B, N]``.
        ours, theirs: attention to each factor, in the image and in the other one, that the
            composite would keep, ``[B, K, N]``.
        grid: places of the attention, h and w.
        where: ``[B, K, H, W]``, where factors are written in the images, as far as it is known.
    """

    other: Tensor
    cuts: Rectangles
    share: Tensor
    seam: Tensor
    ours: Tensor
    theirs: Tensor
    grid: tuple[int, int]
    where: Tensor | None = None

    def first(self, count: int) -> Candidates:
        """Those of the first ``count`` images."""
        cuts = Rectangles(self.cuts.bounds[:, :count], self.cuts.size)
        named = ("other", "share", "seam", "ours", "theirs")
        return self._replace(cuts=cuts, **{name: getattr(self, name)[:count] for name in named})


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

    def candidates(
        self, image: Tensor, projector: LocalProjector, where: Tensor | None = None
    ) -> Candidates:
        """Cuts of images ``[B, C, H, W]``, by which both networks' batches can be mixed.

        ``where`` ``[B, K, H, W]`` in [0, 1] is where factors are written, as far as it is known.

        Raises:
            SettingsError: for a projector of one place, such as
                :class:`diffcf.networks.GlobalPosteriorProjector`.
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        some = Rectangles.random((len(image), self.cuts), size, image.device)
        straight = Rectangles.halves(len(image), size, image.device)
        cuts = Rectangles(torch.cat([some.bounds, straight.bounds], dim=2), size)
        other = shuffled(len(image), image.device)
        # What all images share (walls, a frame) is no texture, and no seam.
        texture = _texture(image) * (image.std(dim=0) > STILL).any(dim=0)
        texture = texture + texture[other] + (image - image[other]).abs().mean(dim=1)
        total = texture.sum(dim=(1, 2)).clamp_min(1e-6)[:, None]
        attention = _read(projector, image).attention
        if where is not None:
            attention = attention_within(attention, where)
        grid = (attention.shape[-2], attention.shape[-1])
        if grid == (1, 1):
            name = type(projector).__name__
            raise SettingsError(
                f"Region mixing cuts images by where factors are read, and {name} has one place "
                "for a whole image: set mixing to null, or take a projector of many places."
            )
        patch = size[0] // grid[0]
        pixels = F.interpolate(attention, scale_factor=float(patch)) / patch**2
        layers = torch.cat([texture[:, None], pixels, pixels[other]], dim=1)
        parts = [1, attention.shape[1], attention.shape[1]]
        textured, ours, theirs = sum_within(layers, cuts).split(parts, dim=1)
        share, seam = textured[:, 0] / total, sum_along(texture, cuts) / total
        return Candidates(other, cuts, share, seam, 1 - ours, theirs, grid, where)

    def for_projector(
        self,
        image: Tensor,
        factors: Tensor,
        projector: LocalProjector,
        candidates: Candidates | None = None,
        count: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Composites ``[B, C, H, W]`` and every place's label ``[B, K, h, w]``, NaN where missing.

        ``candidates`` are those of the images, where they are known; ``count`` is how many of the
        images to mix with any of them, None for all.
        """
        found = candidates or self.candidates(image, projector)
        found = found if count is None else found.first(count)
        other, own, count = found.other, image[: len(found.other)], len(found.other)
        by_texture = torch.rand_like(found.share[:, :1]) < 0.5
        missed = (found.share - torch.rand_like(found.share[:, :1])).abs()
        wanted = torch.where(by_texture, missed, _misfit(found.theirs - found.ours))
        region = found.cuts.regions((wanted + self.seam_cost * found.seam).argmin(dim=1))
        tried = shuffled(count, image.device) < self._tried(count)
        region = (region & tried[:, None, None])[:, None]
        mixed = torch.where(region, image[other], own)
        inside = F.adaptive_avg_pool2d(region.float(), found.grid) > 0.5
        labels = factors[:, :, None, None]
        return mixed, torch.where(inside, labels[other], labels[:count])

    def for_generator(
        self,
        image: Tensor,
        factors: Tensor,
        projector: LocalProjector,
        candidates: Candidates | None = None,
    ) -> Composite:
        """Composites that qualify; elsewhere the image itself with its own factors."""
        found = candidates or self.candidates(image, projector)
        other = found.other
        from_other, decided = self._decided(found.ours, found.theirs)
        decided &= found.seam < self.seam_limit
        cost = _misfit(2.0 * from_other - 1.0) + self.seam_cost * found.seam
        best = cost.masked_fill(~decided, torch.inf).argmin(dim=1)
        region = found.cuts.regions(best)
        rows = shuffled(len(image), image.device)[: self._tried(len(image))]
        taken = from_other[rows].gather(2, best[rows, None, None].expand(-1, factors.shape[1], 1))
        candidate = torch.where(region[rows, None], image[other[rows]], image[rows])
        labels = torch.where(taken[:, :, 0], factors[other[rows]], factors[rows])
        qualified = decided.any(dim=1) & region.flatten(1).any(dim=1)
        where = found.where
        if where is not None:
            pasted = _pooled(region[rows, None].float(), where) > 0.5
            where = torch.where(pasted, where[other[rows]], where[rows])
        kept = qualified[rows] & self._agrees(projector, candidate, labels, where)
        image, factors = image.clone(), factors.clone()
        image[rows] = torch.where(kept[:, None, None, None], candidate, image[rows])
        factors[rows] = torch.where(kept[:, None], labels, factors[rows])
        mixed = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        mixed[rows] = kept
        return Composite(image, factors, mixed)

    def _agrees(
        self, projector: LocalProjector, image: Tensor, labels: Tensor, where: Tensor | None
    ) -> Tensor:
        """``[B]`` bool: no label is missing, and the composite's reading contradicts none."""
        reading = _read(projector, image)
        if where is not None:
            reading = reading.within(where, projector.graph.code_owner)
        known = ~labels.isnan().any(dim=1)
        # An unsure reading is no contradiction: to demand a sure one would leave out whatever is
        # hard to read, and the generator would never see it combined anew.
        allowed = reading.variance + self.tolerance**2
        code = projector.graph.encode(labels)
        return ((reading.mean - code).square() < allowed).all(dim=1) & known

    def _tried(self, count: int) -> int:
        """How many images out of ``count`` are to be mixed: the share ``fraction`` of them."""
        # As many in every batch: a size that varies would have the host wait for the device, and
        # fragment the memory of a CPU.
        return round(self.fraction * count)

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


def _pooled(x: Tensor, like: Tensor) -> Tensor:
    """``x`` ``[B, C, H, W]`` averaged down to the places of another tensor."""
    return F.adaptive_avg_pool2d(x, (int(like.shape[-2]), int(like.shape[-1])))
