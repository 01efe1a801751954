"""Hints found in images: a few in which somebody set a factor tell where it is written.

Two factors that are tied (:mod:`diffcf.causal.ties`), such as the colours of a floor and of the
light on it, have one code in all other images: what is seen of it anywhere speaks of both names.
An image in which somebody set one of them parts the two. There each place sides with one: with the
floor's name where the picture shows what the floor's value looks like in all other images, with
the light's where it shows the light's. A network that has to learn this from a few images learns
them by heart instead; a vote of the images needs no more than a handful.

Of each place (``background`` or ``object``, see :mod:`diffcf.methods.hints`), a pixel from its
edges, the quantiles of each channel are told; extremely randomised trees (Geurts et al., 2006,
https://doi.org/10.1007/s10994-006-6226-1) learn, where the tie holds, which value they go with,
and say of each image where it is broken whose value the place is nearer to. A place is a factor's
if the images vote so (binomial test) and vote otherwise at the other place (the sign test of those
images whose votes differ between the two).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import CausalGraph, Tie, Ties, find_functions, find_ties, intervened_of
from diffcf.methods.hints import background

LEAST = 6  # images in which a tie is broken, below which no vote is sure
MOST = 1000  # images by which it is learned what goes with a value
AT_ONCE = 64  # images whose pixels are looked at together
QUANTILES = 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95
CHANCE = 0.01
TAUGHT = 200
"""Images in which a factor was set against the others that are trusted to teach a network what it
looks like then. Of Shadow, 64 did not (docs/results.md)."""
_OPPOSITE = {"background": "object", "object": "background"}


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
            said = " and ".join(f"{name} is written in the {p}" for name, p in self.places.items())
            return f"{parted} say that {said} (p = {self.chance:.1g})"
        if self.images < LEAST:
            return f"{parted} are too few to tell where either is written: it takes {LEAST} or more"
        return (
            f"{parted} do not tell where either is written: both show in the same places, or "
            "others that share their code do"
        )


def hints_of(found: Sequence[Found]) -> dict[str, str]:
    """The places by name, of those factors of which all that are tied to them have one.

    Of three with one code, where a place sides with the first against the second, it may show the
    third: they are told apart all together, and without contradiction, or not at all.
    """
    together: list[list[Found]] = []  # what shares a factor, directly or by way of others
    for each in found:
        names = set(each.tie.names)
        near = [group for group in together if any(names & set(f.tie.names) for f in group)]
        together = [group for group in together if group not in near]
        together.append([each, *(f for group in near for f in group)])
    places: dict[str, str] = {}
    for group in together:
        said = {pair for each in group for pair in each.places.items()}
        if all(each.places for each in group) and len(said) == len(dict(said)):
            places |= dict(said)
    return places


def find_hints(graph: CausalGraph, data: Any, seed: int = 0) -> tuple[Ties, list[Found]] | None:
    """Ties of the images in which nothing was set, and where images that break one write it.

    Args:
        graph: the factors.
        data: a data module that is set up, with ``factors_of``, ``intervened_of`` and
            ``images_of`` of its training split (:class:`data_modules.base.FactorImageDataModule`).
        seed: of the sample of images and of the trees.

    Returns:
        What is left undetermined where nothing was set, less what :data:`TAUGHT` images teach, and
        a :class:`Found` for each tie that some image breaks, without the places that
        :func:`hints_of` leaves out; None where nothing was set in any.
    """
    intervened = intervened_of(data)
    if intervened is None or not bool(intervened.any()) or not hasattr(data, "images_of"):
        return None
    factors, was_set = data.factors_of("train").cpu(), intervened.cpu()
    observed = factors[~was_set.any(dim=1)]
    found, tied = [], find_ties(graph, observed)
    for tie in tied.all:
        pair = [graph.column(tie.first), graph.column(tie.second)]
        known, set_one = ~factors[:, pair].isnan().any(dim=1), was_set[:, pair].any(dim=1)
        broken = Ties(graph, [tie]).off(factors.nan_to_num(0.0))[:, 0] & known & set_one
        if broken.any():
            holds = (known & ~set_one).nonzero()[:, 0]
            order = torch.randperm(len(holds), generator=torch.Generator().manual_seed(seed))
            rows = holds[order[:MOST]], broken.nonzero()[:, 0]
            found.append(_vote(graph, tie, data, factors, rows, seed))
    heeded = hints_of(found)
    found = [
        f if f.places.items() <= heeded.items() else f._replace(places={}, chance=1.0)
        for f in found
    ]
    learned = {f.tie.names for f in found if f.images >= TAUGHT and not f.places}
    kept = [tie for tie in tied.all if tie.names not in learned]
    taught = was_set.sum(dim=0) >= TAUGHT
    functions = find_functions(graph, observed, ties=tied)
    functions = [f for f in functions if not taught[graph.column(f.effect)]]
    return Ties(graph, kept, functions), found


def _vote(
    graph: CausalGraph,
    tie: Tie,
    data: Any,
    factors: Tensor,
    rows: tuple[Tensor, Tensor],
    seed: int,
) -> Found:
    """Whom the broken images (the second of ``rows``) side with at each place, and what follows."""
    learned, broken = rows
    column = graph.column(tie.first)
    told = torch.zeros(len(graph), dtype=torch.bool)
    told[graph.column(tie.second)] = True
    # What the first factor's value would be if the tie held.
    partner = Ties(graph, [tie]).completed(factors[broken].float(), told)[0][:, column]
    own = factors[broken, column].float()
    shown, tested = _appearance(data, learned), _appearance(data, broken)
    first_wins = {
        place: _nearer(
            graph.factors[column].continuous,
            (shown[place], factors[learned, column].float()),
            (tested[place], own, partner),
            seed,
        )
        for place in _OPPOSITE
    }
    for place, opposite in _OPPOSITE.items():
        chance = _chance(first_wins[place], first_wins[opposite])
        if len(broken) >= LEAST and chance < CHANCE:
            places = {tie.first: place, tie.second: opposite}
            return Found(tie, len(broken), places, chance)
    return Found(tie, len(broken), {}, 1.0)


def _chance(here: Tensor, there: Tensor) -> float:
    """Of such votes if the first factor were not written here and the second not there.

    Votes ``[N]`` are 1 for the first factor, 0 for the second.
    """
    from scipy.stats import binomtest  # slow to import

    def sided(count: Tensor, total: int) -> float:
        return float(binomtest(int(count), total, alternative="greater").pvalue) if total else 1.0

    clear = min(sided(here.sum(), len(here)), sided((1 - there).sum(), len(there)))
    differ = here != there
    return max(clear, sided((here * differ).sum(), int(differ.sum())))


def _nearer(
    continuous: bool,
    learned: tuple[Tensor, Tensor],
    tested: tuple[Tensor, Tensor, Tensor],
    seed: int,
) -> Tensor:
    """``[N]``, 1 where what is seen goes rather with the own value than with the partner's."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor  # slow to import

    (seen, values), (asked, own, partner) = learned, tested
    if continuous:
        trees = ExtraTreesRegressor(100, random_state=seed).fit(seen.numpy(), values.numpy())
        read = torch.from_numpy(trees.predict(asked.numpy())).float()
        return ((read - own).abs() < (read - partner).abs()).long()
    levels = torch.tensor(sorted(set(values.tolist())))
    trees = ExtraTreesClassifier(100, random_state=seed)
    trees.fit(seen.numpy(), _level(levels, values).numpy())
    # A value that no image shows whose tie holds is as unlikely as can be.
    chances = torch.zeros(len(asked), len(levels))
    chances[:, trees.classes_] = torch.from_numpy(trees.predict_proba(asked.numpy())).float()
    row = torch.arange(len(asked))
    return (chances[row, _level(levels, own)] > chances[row, _level(levels, partner)]).long()


def _level(levels: Tensor, values: Tensor) -> Tensor:
    return (values[:, None] - levels).abs().argmin(dim=1)


def _appearance(data: Any, rows: Tensor) -> dict[str, Tensor]:
    """Quantiles of each channel, by place: ``[N, Q C]``."""
    parts: dict[str, list[Tensor]] = {place: [] for place in _OPPOSITE}
    for start in range(0, len(rows), AT_ONCE):
        image = data.images_of("train", rows[start : start + AT_ONCE]).float().cpu()
        around = background(image)
        for place, mask in (("background", around), ("object", 1 - around)):
            parts[place].append(_quantiles(image, mask[:, None]))
    return {place: torch.cat(listed) for place, listed in parts.items()}


def _quantiles(image: Tensor, mask: Tensor) -> Tensor:
    """Of the pixels ``[B, C, H, W]`` inside of ``[B, 1, H, W]``; 0 where there are none."""
    inner = 1 - F.max_pool2d(1 - mask, 3, stride=1, padding=1)
    empty = inner.sum(dim=(1, 2, 3), keepdim=True) == 0
    kept = torch.where(empty, mask, inner) > 0
    pixels = torch.where(kept, image, torch.nan).flatten(2)
    found = torch.nanquantile(pixels, torch.tensor(QUANTILES), dim=2)
    return found.nan_to_num(0.0).permute(1, 0, 2).flatten(1)
