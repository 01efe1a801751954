"""The ruler: read a cartoon face by comparing it with templates that the renderer painted.

The face is compared in four regions: forehead, eyes, mouth, jaw. For each of them, every
combination of the attributes that show there is painted in many positions, sharp and blurred. The
likelihood of the image under each template is that of a normal distribution, which integrates over
the free colours, so these are never guessed. Of the positions the most likely counts, region by
region; the regions' log-likelihoods add up in one table of all attributes and tones of hair, since
brows, hair and beard share their tone; and the table's margins are the probabilities of the
attributes. Nothing is trained.

Images are read at 64 pixels; larger ones are averaged down first, and so are the templates.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from data_modules.scenes.faces.painting import FREE, RAMPS, free_colours
from data_modules.scenes.faces.picture import (
    APPEARANCE,
    ATTRIBUTES,
    CANVAS,
    CENTRE,
    CROP,
    draw_shares,
    resized,
    typical,
)
from data_modules.scenes.unmixing import cached, displayed, read_in_chunks

SIZE = 64
CHUNK = 128  # images read at once, to bound the memory
BLUR, REACH = 1.2, 4  # standard deviation and reach of the blurred templates, in pixels
# Standard deviation of a pixel from its template: more than any noise, because neighbouring pixels
# err together where a face is not quite one of ours.
NOISE = 0.1
SPREAD = {"skin": 0.2, "hair": 0.04, "background": 0.15, "clothes": 0.3}
TONES = 10  # of either age
HAIR = FREE.index("hair")

Box = tuple[float, float, float, float]  # left, right, top, bottom in face units, on a typical face


class Region(NamedTuple):
    """A part of the face, and what is read from it.

    Attributes:
        attributes: those that change this region, in the order of ATTRIBUTES.
        positions: values of the appearance that moves it; templates have every combination.
        hole: a box in it that is left out, since other attributes show there.
    """

    attributes: tuple[str, ...]
    box: Box
    positions: dict[str, Tensor]
    hole: Box | None = None


def _steps(reach: float, step: float) -> Tensor:
    """From −``reach`` to ``reach``."""
    return torch.arange(-reach, reach + step / 2, step)


REGIONS = (
    Region(
        ("Male", "Young", "Bald"),
        (-28, 28, -66, -18),
        {"shift_x": _steps(3, 3), "shift_y": _steps(4.5, 1.5)},
    ),
    Region(
        ("Narrow_Eyes",),
        (-31, 31, -22, 10),
        {"shift_x": _steps(4, 2), "shift_y": _steps(4.5, 1.5), "eye_distance": _steps(1.5, 1.5)},
    ),
    Region(
        ("Smiling", "Mouth_Slightly_Open", "Beard"),
        (-23, 23, 18, 44),
        {"shift_x": _steps(4, 2), "shift_y": _steps(6, 1.5)},
    ),
    Region(
        ("Male", "Beard"),
        (-74, 74, 4, 66),
        {"shift_x": _steps(3, 3), "shift_y": _steps(3.5, 1.75), "size": torch.tensor([0.97, 1.03])},
        hole=(-25, 25, 4, 46),
    ),
)


def read_faces(images: Tensor) -> Tensor:
    """Probabilities ``[B, 7]`` of all attributes in ``[B, 3, S, S]`` images in [-1, 1], never NaN.
    ValueError when the images are not square RGB of at least 64 pixels."""
    return read_in_chunks(_read_chunk, images, CHUNK)


def _read_chunk(images: Tensor) -> Tensor:
    if images.shape[2] < SIZE:
        raise ValueError(f"Cannot read images of {images.shape[2]} pixels: give {SIZE} or more.")
    seen = resized((displayed(images) + 1) / 2, SIZE).flatten(2)
    device = str(images.device)
    # Log of whether a tone of hair suits Young: 0 or −∞, ``[1, 1 or 2 (Young), ..., T]``.
    young = hair_tones()[1].to(device)
    table = torch.stack([~young, young]).float().log()
    table = table.view(1, *(1 + (name == "Young") for name in ATTRIBUTES), -1)
    for number, region in enumerate(REGIONS):
        pixels = _pixels(region).to(device)
        templates = _templates(number, images.shape[2], device)
        fit = log_likelihood(seen[:, :, pixels], templates)
        best = fit.unflatten(1, (2 ** len(region.attributes), -1)).amax(2)
        table = table + best.unflatten(1, [1 + (n in region.attributes) for n in ATTRIBUTES])
    chance = table.flatten(1).softmax(1).view(table.shape).sum(-1)
    marginals = [chance.select(k + 1, 1).flatten(1).sum(1) for k in range(len(ATTRIBUTES))]
    return torch.stack(marginals, 1).clamp(0, 1)


@cached
def _templates(number: int, image_size: int, device: str) -> Templates:
    """All templates of a region: attributes slowest, then positions, then sharp and blurred."""
    region = REGIONS[number]
    sharp = resized(draw_shares(*_grid(region), image_size), SIZE)
    both = torch.stack([sharp, _blurred(sharp)], 1).flatten(0, 1)
    return prepare_templates(both.flatten(2)[:, :, _pixels(region)], hair_tones()[0]).to(device)


def _grid(region: Region) -> tuple[Tensor, Tensor]:
    """Attributes ``[M, 7]`` and appearance ``[M, 9]`` of a region's templates."""
    cases = torch.tensor(list(product((0.0, 1.0), repeat=len(region.attributes))))
    positions = torch.cartesian_prod(*region.positions.values())
    appearance = typical(APPEARANCE).repeat(len(positions), 1)
    appearance[:, [list(APPEARANCE).index(name) for name in region.positions]] = positions
    attributes = typical(ATTRIBUTES).repeat(len(cases), 1)
    attributes[:, [ATTRIBUTES.index(name) for name in region.attributes]] = cases
    return attributes.repeat_interleave(len(positions), 0), appearance.repeat(len(cases), 1)


def _pixels(region: Region) -> Tensor:
    """Flat indices of the pixels whose centres lie in the region."""
    steps = (torch.arange(SIZE) + 0.5) * CROP / SIZE
    top, left = ((side - CROP) // 2 for side in CANVAS)
    y, x = (top + steps - CENTRE[1])[:, None], (left + steps - CENTRE[0])[None]

    def within(left: float, right: float, top: float, bottom: float) -> Tensor:
        return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)

    chosen = within(*region.box)
    if region.hole is not None:
        chosen &= ~within(*region.hole)
    return chosen.flatten().nonzero()[:, 0]


def _blurred(images: Tensor) -> Tensor:
    """Square images ``[B, C, S, S]``, blurred; their outermost pixels go on beyond the edge."""
    steps, side = torch.arange(-REACH, REACH + 1), images.shape[-1]
    weights = torch.exp(-steps.square() / (2 * BLUR**2))
    beside = (torch.arange(side)[:, None] + steps).clamp(0, side - 1)
    # As a matrix, since convolutions of a single channel take ten times as long.
    blur = torch.zeros(side, side)
    blur.scatter_add_(1, beside, (weights / weights.sum()).expand(side, -1))
    return blur @ images @ blur.T


# --- likelihood ---


class Templates(NamedTuple):
    """M templates of P pixels under each of T tones of hair, ready to be compared with images.

    Attributes:
        axes: ``[M, 4, P]``; what free colours explain is half the squared projection on these.
        offset: ``[M, 3, 4]``, projection of the expected image without hair.
        mean: ``[M, 3, P]``, this image, over σ².
        hair: ``[M, P]``, gradient of the log-likelihood by the colour of hair, by pixel.
        tones: ``[T, 3]``, colours of hair.
        constant: ``[M, T]``, the log-likelihood's part that is the same for all images.
    """

    axes: Tensor
    offset: Tensor
    mean: Tensor
    hair: Tensor
    tones: Tensor
    constant: Tensor

    def to(self, device: str) -> Templates:
        """The same as float32 on ``device``."""
        return Templates(*(part.float().to(device) for part in self))


def hair_tones() -> tuple[Tensor, Tensor]:
    """Colours ``[T, 3]`` that hair may have, and whether each is of the young, ``[T]`` bool."""
    steps = torch.linspace(0, 1, TONES).repeat(2)
    young = torch.arange(2 * TONES) >= TONES
    return free_colours(steps[:, None].expand(-1, len(FREE)), young.float())[:, HAIR], young


def prepare_templates(shares: Tensor, tones: Tensor) -> Templates:
    """Templates of shares ``[M, 7, P]`` (four free colours, then the fixed one) and hair ``tones``
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
    # The expected image is mean + tone · hair, and its log-likelihood quadratic in the tone.
    hair = free[:, HAIR]
    along = torch.einsum("mp,mkp->mk", hair, axes)
    gradient = hair / NOISE**2 - torch.einsum("mk,mkp->mp", along, axes)
    curvature = hair.square().sum(1) / NOISE**2 - along.square().sum(1)
    constant = -torch.einsum("tc,mcp,mp->mt", tones, mean, gradient)
    constant -= curvature[:, None] * tones.square().sum(1) / 2
    log_determinant = root.diagonal(dim1=1, dim2=2).log().sum(1)
    constant -= (mean.square().sum((1, 2)) / (2 * NOISE**2) + 3 * log_determinant)[:, None]
    return Templates(axes, offset, mean / NOISE**2, gradient, tones, constant)


def log_likelihood(seen: Tensor, templates: Templates) -> Tensor:
    """``[B, M, T]`` of images ``[B, 3, P]`` in [0, 1], up to a term of the image alone."""
    along = torch.einsum("bcp,mkp->bmck", seen, templates.axes) - templates.offset
    score = torch.einsum("bcp,mcp->bm", seen, templates.mean) + along.square().sum((2, 3)) / 2
    slope = torch.einsum("bcp,mp->bmc", seen, templates.hair)
    return slope @ templates.tones.T + (score[:, :, None] + templates.constant)
