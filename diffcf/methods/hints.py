r"""Hints: where in the picture a factor is written, as far as its user knows.

Two factors that are equal in every image, such as the colours of a light and of the floor that it
falls on, cannot be told apart from images: nothing says which name is the floor's. Who knows that
the floor is the background can say so, without one more image.

A place is one of

- ``background``: all that is joined to the picture's border without crossing an edge, with the
  shadows on it, and ``object``, the rest; pixels in which they meet belong to both. Found in each
  image by growing from the border (Adams & Bischof, 1994, Seeded region growing,
  https://doi.org/10.1109/34.295913) and by colour (:func:`diffcf.methods.places.background`);
- ``background_highlight``, where a background is brightest, such as a lamp's spot on a floor, and
  ``background_rest``, what is left of it. They go over into each other softly;
- a rectangle ``[top, left, bottom, right]`` in shares of the picture's sides;
- a file of an image, white where the factor is written, or its rows as numbers from 0 to 1, as
  weights record it.

The generator is told a factor only where it is written (:func:`told_where_written`): at each place
it is conditioned on the factors of that place. In place of another that is tied to one of these
(:mod:`diffcf.causal.ties`) it is told the value that goes with it in the data; of the others
nothing, as it was trained to be by factor dropout. So no place is ever told a combination that the
data do not have: the floor is drawn as under a light of its colour, the body as on a floor of the
light's. Where nothing that is written at a place moves, the place stays as it was. No network is
trained anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph, Ties
from diffcf.diffusion import VelocityOf
from diffcf.io import ImageTransform, SettingsError, decode, from_bytes
from diffcf.methods.places import FOUND, PARTS, found_places

Place: TypeAlias = str | list[float] | list[list[float]]
"""One of :data:`~diffcf.methods.places.FOUND`, a rectangle in shares of the sides, a file of a mask
or its rows."""
ROUNDING = 1e-5  # weight of a region below which it is none
MASK_SIDE = 32  # places of a mask's side, which is scaled to the images' size


class Hints:
    """Where factors are written.

    Args:
        graph: the factors.
        places: by factor, its :data:`Place`.
        ties: of the factors in the training data; None where they are not known.

    Raises:
        GraphError: for a name that is no factor.
        SettingsError: for a rectangle outside the picture or without area.
        DataError: for a mask file that cannot be read.

    >>> from diffcf.causal import Factor
    >>> graph = CausalGraph([Factor("floor"), Factor("light")])
    >>> hints = Hints(graph, {"floor": [0.5, 0.0, 1.0, 1.0]})  # the lower half
    >>> hints.masks(torch.zeros(1, 3, 4, 4))[0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(
        self, graph: CausalGraph, places: Mapping[str, Place], ties: Ties | None = None
    ) -> None:
        self.graph, self.ties = graph, ties
        self.places = {graph.column(name): place for name, place in places.items()}
        for column, place in self.places.items():
            if isinstance(place, str) and place not in FOUND:
                self.places[column] = _rows_of(Path(place))
            elif not isinstance(place, str):
                _check_numbers(graph.names[column], place)

    @property
    def found(self) -> bool:
        """Whether any place has to be found in the images."""
        return any(isinstance(place, str) for place in self.places.values())

    def to_dict(self) -> dict[str, Place]:
        """The places by factor, a mask by its rows: no file is needed to make these hints again."""
        return {self.graph.names[column]: place for column, place in self.places.items()}

    def untold(self) -> list[str]:
        """Names of factors of which the generator is somewhere told nothing, by no tie either.

        >>> from diffcf.causal import Factor
        >>> Hints(CausalGraph([Factor("floor"), Factor("light")]), {"floor": "background"}).untold()
        ['floor']
        """
        places = list(self.places.values())
        named = {place for place in places if isinstance(place, str)}
        whole = named.issuperset(("background", "object")) or named.issuperset(PARTS)
        known = torch.ones(len(self.graph), dtype=torch.bool)
        for place in places if whole else [*places, None]:  # None is where no place is
            columns = range(len(self.graph))
            told = torch.tensor([self.places.get(each, place) == place for each in columns])
            if self.ties is not None:
                _, told = self.ties.completed(torch.zeros(1, len(told)), told)
            known &= told
        return [
            name for name, told in zip(self.graph.names, known.tolist(), strict=True) if not told
        ]

    def masks(self, image: Tensor) -> Tensor:
        """``[B, K, H, W]`` in [0, 1]: where each factor is written in images ``[B, C, H, W]``.

        1 everywhere for a factor without a hint.
        """
        masks = image.new_ones(len(image), len(self.graph), *image.shape[-2:])
        wanted = {place for place in self.places.values() if isinstance(place, str)}
        found = found_places(image, wanted) if wanted else {}
        for column, place in self.places.items():
            if isinstance(place, str):
                masks[:, column] = found[place]
            elif isinstance(place[0], list):
                rows = torch.tensor(place).to(image)[None, None]
                size = (int(image.shape[-2]), int(image.shape[-1]))
                masks[:, column] = F.interpolate(rows, size, mode="bilinear")[0]
            else:
                masks[:, column] = _rectangle(cast("list[float]", place), image)
        return masks


class Region(NamedTuple):
    """Places at which the same factors are written.

    Attributes:
        told: which factors those are, ``[K]`` bool in main memory, for the host goes by it.
        weight: ``[B, 1, H, W]`` in [0, 1], how far each place belongs to it; 1 over all regions.
    """

    told: Tensor
    weight: Tensor


def regions(masks: Tensor) -> list[Region]:
    """The regions that masks ``[B, K, H, W]`` of factors make, without those of no place.

    Masks that pass into each other softly are parts of one picture: a place that is told two
    factors is one where their masks come to more than 1. The host waits for the masks' device: find
    them once for all steps and answers.
    """
    places: list[tuple[Tensor, Tensor]] = []  # which factors share a place, and its mask
    for column, mask in enumerate(masks.unbind(dim=1)):
        here = torch.arange(masks.shape[1]) == column
        for number, (factors, known) in enumerate(places):
            if torch.equal(known, mask):
                places[number] = (factors | here, known)
                break
        else:
            places.append((here, mask))
    found = [Region(torch.zeros_like(places[0][0]), torch.ones_like(masks[:, :1]))]
    for factors, mask in places:
        # A mask takes first what is told least, so that parts of one picture are told one each.
        left, parted = mask[:, None], []
        for told, weight in sorted(found, key=lambda region: int(region.told.sum())):
            inside = torch.minimum(weight, left)
            left = left - inside
            parted += [Region(told | factors, inside), Region(told, weight - inside)]
        found = [region for region in parted if bool((region.weight > ROUNDING).any())]
    return found


def towards(parts: Sequence[Region], before: Tensor, after: Tensor) -> list[Region]:
    """The :func:`regions` by which an answer is drawn of factors ``after`` instead of ``before``.

    Where a place belongs in part to a region in which something moves, that region alone draws it:
    what the place keeps of the factual is given back in the end (:func:`unchanged`).
    """
    moving = _moving(parts, before, after)
    total = torch.stack(moving).sum(dim=0)
    some = total > ROUNDING
    return [
        Region(told, torch.where(some, moves / total.clamp_min(ROUNDING), weight))
        for (told, weight), moves in zip(parts, moving, strict=True)
    ]


def told_where_written(
    generator: VelocityOf, parts: Sequence[Region], ties: Ties | None = None
) -> VelocityOf:
    """A generator that is told each factor only in the :func:`regions` where it is written.

    Elsewhere it is told nothing of it or, of a factor that is tied to one that is told, the value
    that goes with that one in the data. It takes one evaluation for each region, and copies of the
    batch as guidance makes them.
    """

    def velocity(
        x_t: Tensor, t: Tensor, factors: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if factors is None:
            return generator(x_t, t)
        copies = len(x_t) // len(parts[0].weight)
        v = torch.zeros_like(x_t)
        for told, weight in parts:
            said, known = (factors, told) if ties is None else ties.completed(factors, told)
            known = known.to(x_t.device, non_blocking=True)
            known = known.expand(len(x_t), -1) if mask is None else mask & known
            v = v + weight.repeat(copies, 1, 1, 1) * generator(x_t, t, said, known)
        return v

    return velocity


def unchanged(parts: Sequence[Region], before: Tensor, after: Tensor) -> Tensor:
    """``[B, 1, H, W]`` in [0, 1]: how far a place is one where nothing that is written there moves.

    ``parts`` are the :func:`regions`; factors go from ``before`` to ``after``, ``[B, K]``.
    """
    return 1 - torch.stack(_moving(parts, before, after)).sum(dim=0)


def _moving(parts: Sequence[Region], before: Tensor, after: Tensor) -> list[Tensor]:
    """Each region's weight, 0 for images in which nothing moves of what is told there."""
    differ = before != after
    moves = [(differ & told.to(differ.device, non_blocking=True)).any(dim=1) for told, _ in parts]
    return [w * m.to(w)[:, None, None, None] for (_, w), m in zip(parts, moves, strict=True)]


def _rows_of(file: Path) -> list[list[float]]:
    """A grey image file, its central square, as rows of numbers from 0 to 1."""
    transform = ImageTransform(MASK_SIDE, channels=1)
    levels = (from_bytes(decode(file, transform, "a hint"))[0] + 1) / 2
    return [[round(level, 3) for level in row] for row in levels.tolist()]


def _check_numbers(name: str, place: Sequence[float] | Sequence[Sequence[float]]) -> None:
    if place and all(isinstance(row, list) for row in place):
        rows = cast("list[list[float]]", place)
        widths = {len(row) for row in rows}
        if len(widths) == 1 and 0 not in widths and all(0 <= x <= 1 for row in rows for x in row):
            return
        raise SettingsError(
            f"The hint of '{name}' is rows of numbers, which must be as long as each other and "
            "from 0 to 1: name the image file that they come from."
        )
    numbers = cast("list[float]", list(place))
    top, left, bottom, right = numbers if len(numbers) == 4 else (1.0, 1.0, 0.0, 0.0)
    if not (0.0 <= top < bottom <= 1.0 and 0.0 <= left < right <= 1.0):
        raise SettingsError(
            f"The hint of '{name}' is top, left, bottom and right in shares of the picture, from 0 "
            f"to 1, not {numbers}: give a rectangle inside it."
        )


def _rectangle(place: Sequence[float], image: Tensor) -> Tensor:
    """``[H, W]``, the share of each pixel of ``image`` that lies in a rectangle."""
    sides = []
    for side, (start, end) in zip(image.shape[-2:], (place[::2], place[1::2]), strict=True):
        edges = torch.arange(side + 1, device=image.device, dtype=image.dtype) / side
        sides.append((edges[1:].clamp(max=end) - edges[:-1].clamp(min=start)).clamp_min(0) * side)
    return torch.outer(*sides)
