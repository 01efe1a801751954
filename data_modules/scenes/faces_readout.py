"""The ruler: read a cartoon face by comparing it with what the painter would have painted.

The face is looked at in four places: forehead, eyes, mouth, jaw. There, every combination of the
attributes that show is painted in many positions, sharp and blurred. How likely the image is under
each painting needs no guess of its colours (see :mod:`data_modules.scenes.faces_likelihood`).
Of the positions the best counts, place by place; the places' evidence adds up in one table of all
attributes and tones of hair, since brows, hair and beard have the same; and the table's margins are
the probabilities of the attributes. Nothing is trained.

Images are read at 64 pixels; larger ones are averaged down first, and so are the paintings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from data_modules.scenes.faces_likelihood import (
    Paintings,
    hair_tones,
    log_likelihood,
    prepared,
)
from data_modules.scenes.faces_picture import (
    ATTRIBUTES,
    CANVAS,
    CENTRE,
    CROP,
    LOOKS,
    draw_shares,
)
from data_modules.scenes.unmixing import checked_square, displayed

__all__ = ["read_faces"]

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
