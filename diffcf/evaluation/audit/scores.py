"""The scores of an audit: what a classifier says of every image, under every intervention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.audit.classifier import Classifier
from diffcf.evaluation.audit.contrasts import Arms, Contrast
from diffcf.methods import World

Pair = tuple[Tensor, Tensor]
"""Of ``versus`` and of ``do``."""


@dataclass(frozen=True)
class Moved:
    """The images that a contrast moves most, by any output, in order.

    Attributes:
        row: which of the images, ``[M]``.
        before, after: under ``versus`` and under ``do``, ``[M, C, H, W]`` in [-1, 1].
        effect: the largest change of a score, as a magnitude, ``[M]``.
    """

    row: Tensor
    before: Tensor
    after: Tensor
    effect: Tensor

    def first(self, count: int) -> Moved:
        """The ``count`` that moved most."""
        order = self.effect.argsort(descending=True, stable=True)[:count]
        return Moved(*(values[order] for values in vars(self).values()))

    def joined(self, other: Moved) -> Moved:
        return Moved(*map(torch.cat, zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class ContrastScores:
    """Of N images, the scores ``[N, L]`` under both interventions of a contrast.

    Attributes:
        contrast: what was set.
        total: under ``versus`` and under ``do``.
        direct: likewise, with all effects held at their factual values.
        undetermined: images of which the training data do not teach a change that was asked for,
            bool ``[N]``: the picture may not show it.
        moved: the images that changed most.
    """

    contrast: Contrast
    total: Pair
    direct: Pair
    undetermined: Tensor
    moved: Moved

    def joined(self, other: ContrastScores, shown: int) -> ContrastScores:
        """Both one after another, with the ``shown`` images that changed most."""
        return ContrastScores(
            self.contrast,
            _joined(self.total, other.total),
            _joined(self.direct, other.direct),
            torch.cat([self.undetermined, other.undetermined]),
            self.moved.joined(other.moved).first(shown),
        )


@dataclass(frozen=True)
class AuditScores:
    """What a classifier says of N images and of their counterfactuals.

    Attributes:
        graph: the factors.
        factors: of the factuals, ``[N, K]`` in [0, 1] units.
        factual: scores of the images themselves, ``[N, L]``.
        contrasts: scores of their counterfactuals.
    """

    graph: CausalGraph
    factors: Tensor
    factual: Tensor
    contrasts: Sequence[ContrastScores]


def audit_scores(
    worlds: Iterable[World], classifier: Classifier, contrasts: Sequence[Contrast], shown: int = 6
) -> AuditScores:
    """Draw the counterfactuals of every contrast and have them scored, world by world.

    Of the pictures only those of the ``shown`` images that each contrast moves most are kept.

    Raises:
        DataError: for a classifier that gives no finite scores.
        GraphError, InterventionError: for a contrast that does not fit the graph or a batch.
    """
    graph: CausalGraph | None = None
    factors: list[Tensor] = []
    factual: list[Tensor] = []
    scores: list[ContrastScores] = []
    for world in worlds:
        graph, start = world.graph, sum(map(len, factors))
        here = [_scored(world, classifier, each, start, shown) for each in contrasts]
        factual.append(classifier.scores(world.image))
        factors.append(world.factors.cpu())
        joined = [a.joined(b, shown) for a, b in zip(scores, here, strict=True)] if scores else here
        scores = joined
    if graph is None:
        raise ValueError("There is no image to audit: give one or more.")
    return AuditScores(graph, torch.cat(factors), torch.cat(factual), scores)


def _scored(
    world: World, classifier: Classifier, contrast: Contrast, start: int, shown: int
) -> ContrastScores:
    """Of one batch, whose first image is number ``start``."""
    arms = Arms.of(contrast, world)
    before, after = (world.predict(do) for do in arms.total)
    total = classifier.scores(before.image), classifier.scores(after.image)
    direct = total
    if arms.direct is not None:
        first, second = (classifier.scores(world.predict(do).image) for do in arms.direct)
        direct = first, second
    flags = [each.undetermined for each in (before, after) if each.undetermined is not None]
    nothing = torch.zeros(len(world.image), dtype=torch.bool)
    unsure = torch.stack([nothing, *(flag.any(dim=1).cpu() for flag in flags)]).any(dim=0)
    row, effect = torch.arange(len(nothing)) + start, (total[1] - total[0]).abs().amax(dim=1)
    moved = Moved(row, before.image.cpu(), after.image.cpu(), effect).first(shown)
    return ContrastScores(contrast, total, direct, unsure, moved)


def _joined(first: Pair, second: Pair) -> Pair:
    return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
