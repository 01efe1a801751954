r"""Region mixing: composites of two training images, and what they are labelled.

In observational data the shadow is a function of pendulum and sun, so nothing in the data
contradicts a network that reads, or draws, the shadow from them. Composites do: a region of one
image pasted into another shows factor combinations that observation never shows.

For the projector any cut will do, and every place answers for the image it came from. For the
generator a composite must look like an image and carry a right label for *every* factor:

1. among random cuts, the one with the least *normalised cut* is taken: contrast along the seam
   over the smaller of the changes it brings on either side. It falls between objects.
2. The projector reads the composite. Each factor's label is that of the source image that agrees
   with the reading; a factor that is read unsurely, or agrees with neither source, disqualifies
   the composite (two suns, no sun, a shadow cut in two), and the image itself is used instead.

Only observational images and their labels enter. Our reconstruction; region mixing after CutMix
(Yun et al., 2019, https://arxiv.org/abs/1905.04899), normalised cuts after Shi & Malik (2000).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.projector import FactorPosterior

__all__ = ["Composite", "RegionMixer", "random_regions"]


class Composite(NamedTuple):
    """Images ``[B, C, H, W]``, factors ``[B, K]`` and which were really mixed ``[B]`` (bool)."""

    image: Tensor
    factors: Tensor
    mixed: Tensor


def random_regions(shape: tuple[int, ...], size: tuple[int, int], device: torch.device) -> Tensor:
    """Random half-planes (half of them) and rectangles, ``[*shape, H, W]`` bool."""
    height, width = size
    rows = (torch.arange(height, device=device) + 0.5) / height
    columns = (torch.arange(width, device=device) + 0.5) / width
    low, high = torch.rand(2, 2, *shape, device=device).sort(dim=0).values
    # A half-plane is a rectangle that is open on three sides.
    half_plane = torch.rand(shape, device=device) < 0.5
    along = torch.rand(shape, device=device) < 0.5
    low = torch.where(half_plane, 0.0, low)
    high = torch.stack(
        [
            torch.where(half_plane & ~along, 1.0, high[0]),
            torch.where(half_plane & along, 1.0, high[1]),
        ]
    )
    in_rows = (rows >= low[0][..., None]) & (rows < high[0][..., None])
    in_columns = (columns >= low[1][..., None]) & (columns < high[1][..., None])
    return in_rows[..., :, None] & in_columns[..., None, :]


class RegionMixer(nn.Module):
    """Makes composites from a batch.

    Args:
        fraction: share of the projector's batch that is mixed, and of the generator's that is
            tried.
        cuts: random cuts among which the generator's composite is chosen.
        tolerance: how far, in [0, 1] units, a reading may be from its source's label, and how
            large its standard deviation may be, for a composite to qualify.
    """

    def __init__(self, fraction: float = 0.67, cuts: int = 12, tolerance: float = 0.05) -> None:
        super().__init__()
        self.fraction, self.cuts, self.tolerance = fraction, cuts, tolerance

    def for_projector(self, image: Tensor, factors: Tensor, patch: int) -> tuple[Tensor, Tensor]:
        """Composites ``[B, C, H, W]`` and every place's label ``[B, K, H / patch, W / patch]``."""
        other = torch.randperm(len(image), device=image.device)
        region = random_regions((len(image),), tuple(image.shape[-2:]), image.device)
        region &= (torch.rand(len(image), device=image.device) < self.fraction)[:, None, None]
        mixed = torch.where(region[:, None], image[other], image)
        share = F.avg_pool2d(region[:, None].float(), patch)
        ours, theirs = factors[:, :, None, None], factors[other][:, :, None, None]
        return mixed, torch.where(share > 0.5, theirs, ours)

    def for_generator(self, image: Tensor, factors: Tensor, projector: nn.Module) -> Composite:
        """Composites that qualify; elsewhere the image itself with its own factors."""
        other = torch.randperm(len(image), device=image.device)
        region = self._best_cut(image, image[other])
        candidate = torch.where(region[:, None], image[other], image)
        with torch.no_grad():
            posterior = projector(candidate, image.new_zeros(len(image)))
        labels, sure = self._label(posterior, factors, factors[other])
        tried = torch.rand(len(image), device=image.device) < self.fraction
        mixed = sure.all(dim=1) & tried
        return Composite(
            torch.where(mixed[:, None, None, None], candidate, image),
            torch.where(mixed[:, None], labels, factors),
            mixed,
        )

    def _best_cut(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """``[B, H, W]`` bool: the random region with the least normalised cut."""
        contrast = (ours - theirs).abs().mean(dim=1, keepdim=True)  # [B, 1, H, W]
        size = (int(ours.shape[-2]), int(ours.shape[-1]))
        regions = random_regions((len(ours), self.cuts), size, ours.device)
        inside = regions.float()
        down = (inside[..., 1:, :] != inside[..., :-1, :]).float()
        right = (inside[..., :, 1:] != inside[..., :, :-1]).float()
        seam = (down * (contrast[..., 1:, :] + contrast[..., :-1, :])).sum(dim=(2, 3))
        seam += (right * (contrast[..., :, 1:] + contrast[..., :, :-1])).sum(dim=(2, 3))
        within = (inside * contrast).sum(dim=(2, 3))
        without = contrast.sum(dim=(2, 3)) - within
        # A pixel's worth of change on either side is the least that counts as a composite.
        cost = (seam + 0.1) / torch.minimum(within, without).clamp_min(1e-3)
        best = cost.argmin(dim=1)
        return regions[torch.arange(len(ours), device=ours.device), best]

    def _label(
        self, posterior: FactorPosterior, ours: Tensor, theirs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each factor's label by the source that the reading agrees with, and whether it is sure."""
        to_ours = (posterior.mean - ours).abs()
        to_theirs = (posterior.mean - theirs).abs()
        labels = torch.where(to_ours <= to_theirs, ours, theirs)
        agrees = torch.minimum(to_ours, to_theirs) < self.tolerance
        return labels, agrees & (posterior.variance < self.tolerance**2)
