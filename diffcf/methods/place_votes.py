"""Votes of images in which two tied factors part: which of the two each place goes with.

Of each place (:mod:`diffcf.methods.places`), a pixel from its edges, the quantiles of each channel
are told, and the factors that are not tied to these, such as what colour the object has by itself.
Extremely randomised trees (Geurts et al., 2006, https://doi.org/10.1007/s10994-006-6226-1) learn,
where the tie holds, which value they go with, and say of each image where it is broken whose value
the place is nearer to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph, Tie, Ties
from diffcf.methods.places import FOUND, found_places

AT_ONCE = 64  # images whose pixels are looked at together
QUANTILES = 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95
MOSTLY = 0.5  # share of a pixel from which it is looked at as one of a place


class Votes(NamedTuple):
    """How images in which a tie is broken vote.

    Attributes:
        tie: the two factors.
        images: rows of the training split in which it is broken, ``[N]``.
        first_wins: of each place that most of them have, which images side with the tie's first
            factor there, bool ``[N]``; the others side with the second.
    """

    tie: Tie
    images: Tensor
    first_wins: Mapping[str, Tensor]

    def sides(self, name: str, place: str) -> Tensor:
        """Which images side with this factor of the tie at a place, bool ``[N]``."""
        first = self.first_wins.get(place)
        if first is None:
            return torch.zeros(len(self.images), dtype=torch.bool)
        return first if name == self.tie.first else ~first


def votes_of(
    graph: CausalGraph,
    tie: Tie,
    data: Any,
    factors: Tensor,
    rows: tuple[Tensor, Tensor],
    tied: Ties,
    seed: int,
) -> Votes:
    """Whom the images of ``data`` in which the tie is broken side with at each place.

    ``factors`` ``[N, K]`` are those of its training split, of which ``rows`` are some where the tie
    holds and those where it is broken. ``tied`` are all ties.
    """
    learned, broken = rows
    column = graph.column(tie.first)
    told = torch.zeros(len(graph), dtype=torch.bool)
    told[graph.column(tie.second)] = True
    # What the first factor's value would be if the tie held.
    partner = Ties(graph, [tie]).completed(factors[broken].float(), told)[0][:, column]
    own = factors[broken, column].float()
    near = {*tie.names, *tied.partners(tie.first), *tied.partners(tie.second)}
    untied = torch.tensor([name not in near for name in graph.names])
    others = graph.encode(factors.nan_to_num(0.0).float())[:, untied[graph.code_owner]]
    shown, tested = (_appearance(data, some, others) for some in rows)
    first_wins = {
        place: _nearer(
            graph.factors[column].continuous,
            (shown[place], factors[learned, column].float()),
            (tested[place], own, partner),
            seed,
        )
        for place in FOUND
        if place in shown and place in tested
    }
    return Votes(tie, broken, first_wins)


def _nearer(
    continuous: bool,
    learned: tuple[Tensor, Tensor],
    tested: tuple[Tensor, Tensor, Tensor],
    seed: int,
) -> Tensor:
    """Bool ``[N]``, where what is seen goes rather with the own value than with the partner's."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor  # slow to import

    (seen, values), (asked, own, partner) = learned, tested
    if continuous:
        trees = ExtraTreesRegressor(100, random_state=seed).fit(seen.numpy(), values.numpy())
        read = torch.from_numpy(trees.predict(asked.numpy())).float()
        return (read - own).abs() < (read - partner).abs()
    levels = torch.tensor(sorted(set(values.tolist())))
    trees = ExtraTreesClassifier(100, random_state=seed)
    trees.fit(seen.numpy(), _level(levels, values).numpy())
    # A value that no image shows whose tie holds is as unlikely as can be.
    chances = torch.zeros(len(asked), len(levels))
    chances[:, trees.classes_] = torch.from_numpy(trees.predict_proba(asked.numpy())).float()
    row = torch.arange(len(asked))
    return chances[row, _level(levels, own)] > chances[row, _level(levels, partner)]


def _level(levels: Tensor, values: Tensor) -> Tensor:
    return (values[:, None] - levels).abs().argmin(dim=1)


def _appearance(data: Any, rows: Tensor, others: Tensor) -> dict[str, Tensor]:
    """Quantiles of each channel beside the code of other factors, of each place that most have."""
    parts: dict[str, list[Tensor]] = {place: [] for place in FOUND}
    there: dict[str, list[Tensor]] = {place: [] for place in FOUND}
    for start in range(0, len(rows), AT_ONCE):
        image = data.images_of("train", rows[start : start + AT_ONCE]).float().cpu()
        for place, share in found_places(image).items():
            mask = (share > MOSTLY).to(image)[:, None]
            parts[place].append(_quantiles(image, mask))
            there[place].append(mask.amax(dim=(1, 2, 3)))
    return {
        place: torch.cat([torch.cat(listed), others[rows]], dim=1)
        for place, listed in parts.items()
        if torch.cat(there[place]).mean() > 0.5
    }


def _quantiles(image: Tensor, mask: Tensor) -> Tensor:
    """Of the pixels ``[B, C, H, W]`` inside of ``[B, 1, H, W]``; 0 where there are none."""
    inner = 1 - F.max_pool2d(1 - mask, 3, stride=1, padding=1)
    empty = inner.sum(dim=(1, 2, 3), keepdim=True) == 0
    kept = torch.where(empty, mask, inner) > 0
    pixels = torch.where(kept, image, torch.nan).flatten(2)
    found = torch.nanquantile(pixels, torch.tensor(QUANTILES), dim=2)
    return found.nan_to_num(0.0).permute(1, 0, 2).flatten(1)
