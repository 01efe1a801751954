"""Effects on a classifier's scores: means over images with bootstrap intervals, and gaps.

The effect of one image is the difference of its scores under two interventions (ITE); the average
effect (ATE) is its mean over images. An interval covers the sampling of images and nothing else:
errors of the counterfactuals themselves are a bias, the same in every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.audit.scores import AuditScores, ContrastScores
from diffcf.evaluation.metrics.image_metric import ImageMetric

BINS = 3
"""Groups of a number: as many of its values in each, as far as ties allow."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Mean:
    """A mean over ``images``, and its 95% bootstrap interval over them."""

    mean: float
    low: float
    high: float
    images: int


class _GroupMeans(ImageMetric):
    """Means of each column within each group, by the name ``<group>/<column>``."""

    def update(self, values: Tensor, group: Tensor) -> None:
        self._add(values, group, None)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        return {f"{g}/{q}": means[:, g, q] for g in seen for q in range(self.quantities)}


def means(
    values: Tensor, group: Tensor | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> dict[int, list[Mean]]:
    """Of each column of ``values`` ``[N, Q]``, by group (``[N]`` int64; None for one, 0).

    A group without images is left out.
    """
    group = torch.zeros(len(values), dtype=torch.long) if group is None else group
    metric = _GroupMeans(int(group.max()) + 1, values.shape[1])
    metric.update(values.double(), group)
    ends = metric.intervals(resamples=resamples, seed=seed)
    found = {}
    for g in group.unique().tolist():
        some = values[group == g].double()
        average = enumerate(some.mean(dim=0).tolist())
        found[g] = [Mean(mean, *ends[f"{g}/{q}"], len(some)) for q, mean in average]
    return found


def decisions(scores: Tensor, threshold: float) -> Tensor:
    """``[N]`` int64: whether a single score reaches the threshold, or which of several is largest.

    >>> decisions(torch.tensor([[0.4], [0.5]]), 0.5).tolist()
    [0, 1]
    """
    if scores.shape[1] == 1:
        return (scores[:, 0] >= threshold).long()
    return scores.argmax(dim=1)


@dataclass(frozen=True)
class Strata:
    """Groups of images by one factor.

    Attributes:
        factor: its name.
        labels: of each group, for people.
        group: that of each image, ``[N]`` int64.
    """

    factor: str
    labels: Sequence[str]
    group: Tensor

    @classmethod
    def of(cls, graph: CausalGraph, factors: Tensor, name: str) -> Strata:
        """By the levels of a discrete factor, or by up to three quantile bins of a number.

        ``factors`` are ``[N, K]`` in [0, 1] units; GraphError for a name that is no factor's.
        """
        column = graph.column(name)
        factor, values = graph.factors[column], factors[:, column].contiguous()
        if not factor.continuous:
            levels = max(factor.width, 2)
            labels = [factor.text(k / (levels - 1)) for k in range(levels)]
            return cls(name, labels, (values * (levels - 1)).round().long())
        inner = torch.linspace(0, 1, BINS + 1, dtype=values.dtype)[1:-1]
        # Edges are values that occur, above the least, so that no bin is empty.
        above, edges = values[values > values.min()], values[:0]
        if len(above):
            edges = values.quantile(inner, interpolation="higher").clamp_min(above.min()).unique()
        group = torch.bucketize(values, edges, right=True)
        some = [values[group == g] for g in range(len(edges) + 1)]
        texts = [(factor.text(float(v.min())), factor.text(float(v.max()))) for v in some]
        return cls(name, [a if a == b else f"{a} … {b}" for a, b in texts], group)

    @property
    def empty(self) -> list[str]:
        """The labels of groups without an image."""
        return [label for g, label in enumerate(self.labels) if not (self.group == g).any()]


@dataclass(frozen=True)
class Audit:
    """The answer of an audit; see docs/audit.md.

    Attributes:
        scores: of every image under every intervention.
        effects: of each contrast, its average effects, flips of the decision, and strata.
        groups: of each factor, mean scores and decisions of the images themselves.
        notes: sentences on what is left out, or may not be what it seems.
    """

    scores: AuditScores
    effects: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    notes: list[str]


def summarise(
    scores: AuditScores,
    threshold: float = 0.5,
    strata: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Audit:
    """Averages of ``scores``, all as plain numbers.

    Args:
        scores: of the images.
        threshold: from which on a single score decides for 1; of several outputs the largest wins.
        strata: names of factors within whose groups average effects are given besides.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        GraphError: for a name that is no factor's.
    """
    bootstrap = resamples, seed
    within = [Strata.of(scores.graph, scores.factors, name) for name in dict.fromkeys(strata)]
    names = dict.fromkeys(name for each in scores.contrasts for name in each.contrast.factors)
    groups = [Strata.of(scores.graph, scores.factors, name) for name in names]
    notes = [
        f"No image has {each.factor} = {label}: it is left out of the strata."
        for each in within
        for label in each.empty
    ]
    for each in scores.contrasts:
        if unsure := int(each.undetermined.sum()):
            notes.append(
                f"{each.contrast.title}: of {unsure} images the training data do not teach the "
                "change, so the pictures may not show it, and its effect counts as none."
            )
    return Audit(
        scores,
        [_effects(each, threshold, within, *bootstrap) for each in scores.contrasts],
        [_groups(scores.factual, each, threshold, *bootstrap) for each in groups],
        notes,
    )


def _effects(
    scores: ContrastScores, threshold: float, strata: Sequence[Strata], resamples: int, seed: int
) -> dict[str, Any]:
    """What a contrast does: to each output, and to the decision."""
    total, direct = (after - before for before, after in (scores.total, scores.direct))
    before, after = (decisions(each, threshold) for each in scores.total)
    outputs = total.shape[1]
    flipped = {"all": before != after}
    if outputs == 1:
        flipped |= {"up": before < after, "down": before > after}
    shares = torch.stack(list(flipped.values()), dim=1).double()
    numbers = _numbers(means(torch.cat([total, direct, shares], dim=1), None, resamples, seed))[0]
    return {
        "contrast": scores.contrast.title,
        "factors": list(scores.contrast.factors),
        "total": numbers[:outputs],
        "direct": numbers[outputs : 2 * outputs],
        "flips": dict(zip(flipped, numbers[2 * outputs :], strict=True)),
        "undetermined": scores.undetermined.double().mean().item(),
        "strata": {
            each.factor: [
                {"of": each.labels[g], "total": row}
                for g, row in _numbers(means(total, each.group, resamples, seed)).items()
            ]
            for each in strata
        },
    }


def _groups(
    factual: Tensor, strata: Strata, threshold: float, resamples: int, seed: int
) -> dict[str, Any]:
    """Mean score and decisions of the images themselves, by group, and how far groups lie apart.

    ``gap`` is the largest mean less the smallest, of each output's score; ``decision_gap`` that of
    the share that reaches the threshold or, of several outputs, that each is decided for. Groups
    also differ in all that goes with the factor: what it does by itself is its effect.
    """
    outputs = factual.shape[1]
    options = torch.ones(1) if outputs == 1 else torch.arange(outputs)
    decided = decisions(factual, threshold)[:, None] == options
    found = means(torch.cat([factual, decided.double()], dim=1), strata.group, resamples, seed)
    columns = zip(*([each.mean for each in row] for row in found.values()), strict=True)
    gaps = [max(column) - min(column) for column in columns]
    return {
        "factor": strata.factor,
        "groups": [
            {"of": strata.labels[g], "score": row[:outputs], "decided": row[outputs:]}
            for g, row in _numbers(found).items()
        ],
        "gap": gaps[:outputs],
        "decision_gap": gaps[outputs:],
    }


def _numbers(found: dict[int, list[Mean]]) -> dict[int, list[dict[str, Any]]]:
    return {group: [asdict(each) for each in row] for group, row in found.items()}
