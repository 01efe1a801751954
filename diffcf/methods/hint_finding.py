"""Hints found in images: a few in which somebody set a factor tell where it is written.

Two factors that are tied (:mod:`diffcf.causal.ties`), such as the colours of a floor and of the
light on it, have one code in all other images: what is seen of it anywhere speaks of both names.
An image in which somebody set one of them parts the two. There each place sides with one: with the
floor's name where the picture shows what the floor's value looks like in all other images, with
the light's where it shows the light's. A network that has to learn this from a few images learns
them by heart instead; a vote of the images needs no more than a handful.

Trees say of each place (:mod:`diffcf.methods.place_votes`) whose value it is nearer to. A place is
a factor's if the images vote so (binomial test) and vote otherwise at the other's place (the sign
test of those images whose votes differ between the two). Of three factors with one code each place
has to vote for its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Tie, Ties, find_functions, find_ties, intervened_of
from diffcf.methods.place_votes import Votes, votes_of
from diffcf.methods.places import PARTS

LEAST = 6  # images in which a tie is broken, below which no vote is sure
MOST = 1000  # images by which it is learned what goes with a value
CHANCE = 0.01
COARSE = ("background", "object")
TAUGHT = 200
"""Images in which a factor was set against the others that are trusted to teach a network what it
looks like then. Of Shadow, 64 did not (docs/results.md)."""

_SAID = {
    "background": "background",
    "object": "object",
    "background_highlight": "background's highlight",
    "background_rest": "rest of the background",
}


class Found(NamedTuple):
    """What interventional images say of a tie.

    Attributes:
        tie: the two factors.
        images: how many broke the tie.
        places: where each of the two is written, by name; empty where it cannot be told.
        chance: the probability of such votes, or clearer ones, by chance.
    """

    tie: Tie
    images: int
    places: dict[str, str]
    chance: float

    def __str__(self) -> str:
        """A sentence without a full stop."""
        parted = (
            f"{self.images} interventional images in which {self.tie.first} and {self.tie.second} "
            "part"
        )
        if self.places:
            said = " and ".join(f"{n} is written in the {_SAID[p]}" for n, p in self.places.items())
            return f"{parted} say that {said} (p = {self.chance:.1g})"
        if self.images < LEAST:
            return f"{parted} are too few to tell where either is written: it takes {LEAST} or more"
        return (
            f"{parted} do not tell where either is written: both show in the same places, or "
            "others that share their code do"
        )


def hints_of(found: Sequence[Found]) -> dict[str, str]:
    """The places that images say, by factor."""
    return {name: place for each in found for name, place in each.places.items()}


def told_apart(votes: Sequence[Votes]) -> list[Found]:
    """Where the factors of each tie are written, as far as the images tell.

    Factors that share one code are told apart all together or not at all: where a place sides with
    one of three against another, it may show the third.
    """
    found = []
    for group in _groups(votes):
        places, chance = _assigned(group)
        for each in group:
            own = {name: places[name] for name in each.tie.names} if places else {}
            found.append(Found(each.tie, len(each.images), own, chance))
    return found


def _groups(votes: Sequence[Votes]) -> list[list[Votes]]:
    """What shares a factor, directly or by way of others."""
    together: list[list[Votes]] = []
    for each in votes:
        names = set(each.tie.names)
        near = [group for group in together if any(names & set(v.tie.names) for v in group)]
        together = [group for group in together if group not in near]
        together.append([*(v for group in near for v in group), each])
    return together


def _assigned(group: Sequence[Votes]) -> tuple[dict[str, str], float]:
    """The places of factors that share a code, and the probability of such votes by chance.

    No places and 1 where the votes do not tell. Two factors are sought in the whole background and
    the object first.
    """
    names = list(dict.fromkeys(name for each in group for name in each.tie.names))
    parted = {frozenset(each.tie.names) for each in group if len(each.images) >= LEAST}
    if any(frozenset(pair) not in parted for pair in combinations(names, 2)):
        return {}, 1.0
    for among in (COARSE, PARTS):
        ways = [dict(zip(names, chosen, strict=True)) for chosen in permutations(among, len(names))]
        chances = [_chance(group, places) for places in ways]
        if chances and min(chances) < CHANCE:
            best = chances.index(min(chances))
            return ways[best], chances[best]
    return {}, 1.0


def _chance(group: Sequence[Votes], places: dict[str, str]) -> float:
    """Of such votes, or clearer ones, if the factors were not at these places.

    Two factors: one place sides with its factor, and the other place votes otherwise. Of more, each
    place sides with its factor, an image's vote there being against all that part from it.
    """
    if len(places) == 2:
        ((one, here), (other, there)) = places.items()
        own, others = group[0].sides(one, here), group[0].sides(other, there)
        differ = own == others  # where the places side with different factors
        clear = min(_sided(own), _sided(others))
        return max(clear, _sided(own[differ]))
    return max(_sided(_own_votes(group, name, place)) for name, place in places.items())


def _own_votes(group: Sequence[Votes], name: str, place: str) -> Tensor:
    """Of each image in which a factor parts from others, whether a place sides with it, bool."""
    votes: dict[int, bool] = {}
    for each in group:
        if name in each.tie.names:
            for row, own in zip(
                each.images.tolist(), each.sides(name, place).tolist(), strict=True
            ):
                votes[row] = votes.get(row, True) and own
    return torch.tensor(list(votes.values()))


def _sided(votes: Tensor) -> float:
    """Binomial test of votes (bool) that are one as likely as the other."""
    from scipy.stats import binomtest  # slow to import

    if not len(votes):
        return 1.0
    return float(binomtest(int(votes.sum()), len(votes), alternative="greater").pvalue)


def find_hints(graph: CausalGraph, data: Any, seed: int = 0) -> tuple[Ties, list[Found]] | None:
    """Ties of the images in which nothing was set, and where images that break one write it.

    Args:
        graph: the factors.
        data: a data module that is set up, with ``factors_of``, ``intervened_of`` and
            ``images_of`` of its training split (:class:`data_modules.base.FactorImageDataModule`).
        seed: of the sample of images and of the trees.

    Returns:
        What is left undetermined where nothing was set, less what :data:`TAUGHT` images teach, and
        a :class:`Found` for each tie that some image breaks; None where nothing was set in any.
    """
    intervened = intervened_of(data)
    if intervened is None or not bool(intervened.any()) or not hasattr(data, "images_of"):
        return None
    factors, was_set = data.factors_of("train").cpu(), intervened.cpu()
    observed = factors[~was_set.any(dim=1)]
    votes, tied = [], find_ties(graph, observed)
    for tie in tied.all:
        pair = [graph.column(tie.first), graph.column(tie.second)]
        known, set_one = ~factors[:, pair].isnan().any(dim=1), was_set[:, pair].any(dim=1)
        broken = Ties(graph, [tie]).off(factors.nan_to_num(0.0))[:, 0] & known & set_one
        if broken.any():
            holds = (known & ~set_one).nonzero()[:, 0]
            order = torch.randperm(len(holds), generator=torch.Generator().manual_seed(seed))
            rows = holds[order[:MOST]], broken.nonzero()[:, 0]
            votes.append(votes_of(graph, tie, data, factors, rows, tied, seed))
    found = told_apart(votes)
    learned = {f.tie.names for f in found if f.images >= TAUGHT and not f.places}
    kept = [tie for tie in tied.all if tie.names not in learned]
    taught = was_set.sum(dim=0) >= TAUGHT
    functions = find_functions(graph, observed, ties=tied)
    functions = [f for f in functions if not taught[graph.column(f.effect)]]
    return Ties(graph, kept, functions), found
