"""The ruler: read a cartoon face by comparing it with what the painter would have painted.

The face is looked at in four places: forehead, eyes, mouth, jaw. There, every combination of the
attributes that show is painted in many positions, sharp and blurred. How likely the image is under
each painting needs no guess of its colours (see :mod:`data_modules.scenes.faces.readout`).
Of the positions the best counts, place by place; the places' evidence adds up in one table of all
attributes and tones of hair, since brows, hair and beard have the same; and the table's margins are
the probabilities of the attributes. Nothing is trained.

Images are read at 64 pixels; larger ones are averaged down first, and so are the paintings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from data_modules.scenes.faces.easel import FREE, RAMPS, free_colours
from data_modules.scenes.faces.picture import ATTRIBUTES, CANVAS, CENTRE, CROP, LOOKS, draw_shares
from data_modules.scenes.unmixing import checked_square, displayed

SIZE = 64
CHUNK = 128  # images read at once, to bound the memory
BLUR, REACH = 1.2, 4  # standard deviation and reach of the blurred paintings, in pixels


@dataclass(frozen=True)
class Place:
    """Where to look, and for what.

    Attributes:
        shows: the attributes that change this place, in the order of ATTRIBUTES.
        box: left, right, top, bottom in face units, on a typical face.
        hole: a box in it that is left out, since other attributes show there.
        grid: values of the looks that move this place.
    """

    shows: tuple[str, ...]
    box: tuple[float, float, float, float]
    grid: dict[str, tuple[float, ...]]
    hole: tuple[float, float, float, float] | None = None


PLACES = (
    Place(
        ("Male", "Young", "Bald"),
        (-28, 28, -66, -18),
        {"shift_x": (-3.0, 0.0, 3.0), "shift_y": (-4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5)},
    ),
    Place(
        ("Narrow_Eyes",),
        (-31, 31, -22, 10),
        {
            "shift_x": (-4.0, -2.0, 0.0, 2.0, 4.0),
            "shift_y": (-4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5),
            "eye_distance": (-1.5, 0.0, 1.5),
        },
    ),
    Place(
        ("Smiling", "Mouth_Slightly_Open", "Beard"),
        (-23, 23, 18, 44),
        {
            "shift_x": (-4.0, -2.0, 0.0, 2.0, 4.0),
            "shift_y": (-6.0, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0),
        },
    ),
    Place(
        ("Male", "Beard"),
        (-74, 74, 4, 66),
        {
            "shift_x": (-3.0, 0.0, 3.0),
            "shift_y": (-3.5, -1.75, 0.0, 1.75, 3.5),
            "size": (0.97, 1.03),
        },
        hole=(-25, 25, 4, 46),
    ),
)
TYPICAL = {"Young": 1.0}  # what is painted where a place does not show it; others 0


def read_faces(images: Tensor) -> Tensor:
    """Probabilities ``[B, 7]`` of all attributes in ``[B, 3, S, S]`` images in [-1, 1], never NaN.

    Raises:
        ValueError: when the images are not square RGB of at least 64 pixels.
    """
    checked_square(images)
    if images.shape[2] < SIZE:
        raise ValueError(f"Cannot read images of {images.shape[2]} pixels: give {SIZE} or more.")
    return torch.cat([_read_chunk(chunk) for chunk in images.split(CHUNK)])


def _read_chunk(images: Tensor) -> Tensor:
    seen = _reduced((displayed(images) + 1) / 2).flatten(2)
    device = str(images.device)
    table = _ages().to(device)
    for number, place in enumerate(PLACES):
        pixels = _pixels(place).to(device)
        fit = log_likelihood(seen[:, :, pixels], _paintings(number, images.shape[2], device))
        evidence = fit.unflatten(1, (2 ** len(place.shows), -1)).amax(2)
        table = table + evidence.unflatten(1, [1 + (name in place.shows) for name in ATTRIBUTES])
    chance = table.flatten(1).softmax(1).view(table.shape).sum(-1)
    return torch.stack(
        [chance.select(k + 1, 1).flatten(1).sum(1) for k in range(len(ATTRIBUTES))], 1
    ).clamp(0, 1)


def _ages() -> Tensor:
    """Log of whether a tone of hair suits Young, as a table ``[1, 2, ..., 2, T]`` of 0 and −∞."""
    young = hair_tones()[1]
    suits = torch.stack([~young, young])
    shape = [1 + (name == "Young") for name in ATTRIBUTES]
    return suits.float().log().view(1, *shape, -1)


@lru_cache(maxsize=32)
def _paintings(number: int, image_size: int, device: str) -> Paintings:
    """All paintings of a place: case by case, and in every case position by position."""
    place = PLACES[number]
    # Cached tensors must serve autograd too, wherever the first read happened.
    with torch.inference_mode(False), torch.no_grad():
        sharp = _reduced(draw_shares(*_grid(place), image_size))
        both = torch.stack([sharp, _blurred(sharp)], 1).flatten(0, 1)
        return prepared(both.flatten(2)[:, :, _pixels(place)], hair_tones()[0]).to(device)


def _grid(place: Place) -> tuple[Tensor, Tensor]:
    """Attributes ``[M, 7]`` and looks ``[M, 9]`` of every painting, case by case."""
    cases = torch.tensor(list(product((0.0, 1.0), repeat=len(place.shows))))
    typical = torch.tensor([look.typical for look in LOOKS.values()])
    grid = torch.cartesian_prod(*(torch.tensor(values) for values in place.grid.values()))
    looks = typical.repeat(len(grid), 1)
    for name, values in zip(place.grid, grid.unbind(1), strict=True):
        looks[:, list(LOOKS).index(name)] = values
    attributes = torch.tensor([TYPICAL.get(name, 0.0) for name in ATTRIBUTES])
    attributes = attributes.repeat(len(cases), 1)
    for name, values in zip(place.shows, cases.unbind(1), strict=True):
        attributes[:, ATTRIBUTES.index(name)] = values
    return attributes.repeat_interleave(len(grid), 0), looks.repeat(len(cases), 1)


def _pixels(place: Place) -> Tensor:
    """Flat numbers of the pixels whose centres lie in the place."""
    steps = (torch.arange(SIZE) + 0.5) * CROP / SIZE
    top, left = ((side - CROP) // 2 for side in CANVAS)
    y, x = (top + steps - CENTRE[1])[:, None], (left + steps - CENTRE[0])[None]

    def within(box: tuple[float, float, float, float]) -> Tensor:
        left, right, top, bottom = box
        return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)

    chosen = within(place.box)
    if place.hole is not None:
        chosen &= ~within(place.hole)
    return chosen.flatten().nonzero()[:, 0]


def _reduced(images: Tensor) -> Tensor:
    if images.shape[-1] == SIZE:
        return images
    return interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)


def _blurred(images: Tensor) -> Tensor:
    weights = torch.exp(-torch.arange(-REACH, REACH + 1.0).square() / (2 * BLUR**2))
    weights = (weights / weights.sum()).view(1, 1, -1, 1)
    padded = pad(images, (REACH,) * 4, mode="replicate").flatten(0, 1)[:, None]
    return conv2d(conv2d(padded, weights), weights.mT).view(images.shape)


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
