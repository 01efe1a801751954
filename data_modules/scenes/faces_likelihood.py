"""How likely an image is, given a painting whose colours are not known.

A painted pixel is W b + c: shares W of the free colours b, and a fixed colour c. Skin, background
and clothes have a normal prior, pixels normal noise, so all three integrate out exactly. Hair is
one of a list of tones, give or take a little: were it free as well, a faint trace of hair would
pass for hair of a faint colour.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from data_modules.scenes.faces_colours import FREE, RAMPS, free_colours

__all__ = ["Paintings", "hair_tones", "log_likelihood", "prepared"]

# Standard deviation of a pixel from its painting: more than any noise, because neighbouring pixels
# err together where a face is not quite one of ours.
NOISE = 0.1
SPREAD = {"skin": 0.2, "hair": 0.04, "background": 0.15, "clothes": 0.3}
TONES = 10  # of either age
HAIR = FREE.index("hair")


@dataclass(frozen=True)
class Paintings:
    """M paintings of P pixels under each of T tones of hair, ready to be compared with images.

    Attributes:
        axes: ``[M, 4, P]``; what free colours explain is half the squared projection on these.
        offset: ``[M, 3, 4]``, projection of the expected image without hair.
        mean: ``[M, 3, P]``, this image, over σ².
        strand: ``[M, P]``, what hair adds to an image's likelihood, per unit of its colour.
        tones: ``[T, 3]``, colours of hair.
        level: ``[M, T]``, what is the same for all images.
    """

    axes: Tensor
    offset: Tensor
    mean: Tensor
    strand: Tensor
    tones: Tensor
    level: Tensor

    def to(self, device: str) -> Paintings:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return Paintings(**{name: value.float().to(device) for name, value in parts.items()})


def hair_tones() -> tuple[Tensor, Tensor]:
    """Colours ``[T, 3]`` that hair may have, and whether each is of the young, ``[T]`` bool."""
    steps = torch.linspace(0, 1, TONES).repeat(2)
    young = torch.arange(2 * TONES) >= TONES
    return free_colours(steps[:, None].expand(-1, len(FREE)), young.float())[:, HAIR], young


def prepared(shares: Tensor, tones: Tensor) -> Paintings:
    """Paintings of shares ``[M, 7, P]`` (four free colours, then the fixed one) and hair ``tones``
    ``[T, 3]``.

    In each channel the covariance is W S Wᵀ + σ², for free colours of variances S; by Woodbury its
    inverse is 1 / σ² − Aᵀ A, with axes A = (S⁻¹ σ² + Wᵀ W)^(−½) Wᵀ / σ.
    """
    shares, tones = shares.double(), tones.double()
    free, fixed = shares[:, : len(FREE)], shares[:, len(FREE) :]
    spread = torch.tensor([SPREAD[name] for name in FREE], dtype=shares.dtype)
    centre = torch.stack([torch.tensor(RAMPS[n], dtype=shares.dtype).mean(0) for n in FREE])
    centre[HAIR] = 0
    mean = fixed + torch.einsum("kc,mkp->mcp", centre, free)
    root = torch.linalg.cholesky(free @ free.mT + (NOISE / spread).square().diag())
    axes = torch.linalg.solve_triangular(root, free, upper=False) / NOISE
    offset = torch.einsum("mcp,mkp->mck", mean, axes)
    # The expected image is mean + tone · hair, and its likelihood quadratic in the tone.
    hair = free[:, HAIR]
    along = torch.einsum("mp,mkp->mk", hair, axes)
    strand = hair / NOISE**2 - torch.einsum("mk,mkp->mp", along, axes)
    bend = hair.square().sum(1) / NOISE**2 - along.square().sum(1)
    level = -torch.einsum("tc,mcp,mp->mt", tones, mean, strand)
    level -= bend[:, None] * tones.square().sum(1) / 2
    size = root.diagonal(dim1=1, dim2=2).log().sum(1)
    level -= (mean.square().sum((1, 2)) / (2 * NOISE**2) + 3 * size)[:, None]
    return Paintings(axes, offset, mean / NOISE**2, strand, tones, level)


def log_likelihood(seen: Tensor, paintings: Paintings) -> Tensor:
    """``[B, M, T]`` of images ``[B, 3, P]`` in [0, 1], up to a term of the image alone."""
    along = torch.einsum("bcp,mkp->bmck", seen, paintings.axes) - paintings.offset
    score = torch.einsum("bcp,mcp->bm", seen, paintings.mean) + along.square().sum((2, 3)) / 2
    slope = torch.einsum("bcp,mp->bmc", seen, paintings.strand)
    return slope @ paintings.tones.T + (score[:, :, None] + paintings.level)
