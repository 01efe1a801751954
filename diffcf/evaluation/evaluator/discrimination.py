"""How well an evaluator tells the values of binary factors apart, and whether another agrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
)

from diffcf.causal import CausalGraph, LevelBalance
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.io import CheckpointError

Batches = Iterable[Mapping[str, Tensor]]


def binary_scores(
    reader: EvaluatorReader, batches: Batches, balance: float = 0.0
) -> dict[str, dict[str, float]]:
    """Of each binary factor, on images with known factors, by name; empty where there are none.

    Returns:
        ``positive``: the share of images that have it; ``auroc``; ``f1`` of readings from ½ on, the
        factor's 1 being what is looked for; ``balanced_error``: the mean of the shares misread of
        those that have it and of those that have not; ``calibration``: the expected calibration
        error in ten bins (Naeini et al., 2015), with images weighed as the training did, by
        ``balance`` (:class:`diffcf.causal.LevelBalance`): to an evaluator that was trained balanced
        both values are as likely beforehand.
    """
    read, factors = _readings([reader], batches)
    weights = LevelBalance(reader.graph, factors, balance)(factors)
    scores = {}
    for column, factor in enumerate(reader.graph.factors):
        if factor.kind != "binary":
            continue
        found, truth = read[0][:, column], factors[:, column].round().long()
        if truth.min() == truth.max():
            continue  # nothing to tell apart
        misread = (found >= 0.5).long() != truth
        by_level = [float(misread[truth == level].float().mean()) for level in (0, 1)]
        scores[factor.name] = {
            "positive": float(truth.float().mean()),
            "auroc": float(binary_auroc(found, truth)),
            "f1": float(binary_f1_score(found, truth)),
            "balanced_error": sum(by_level) / 2,
            "calibration": calibration_error(found, truth, weights[:, column]),
        }
    return scores


def calibration_error(probability: Tensor, truth: Tensor, weight: Tensor, bins: int = 10) -> float:
    """Mean over bins of |stated probability - share that is true|, each by its weight; all [N]."""
    place = (probability * bins).long().clamp(0, bins - 1)
    sums = torch.zeros(3, bins, dtype=torch.float64)
    stated = torch.stack([weight, weight * probability, weight * truth]).double()
    sums.index_add_(1, place, stated)
    return float((sums[1] - sums[2]).abs().sum() / sums[0].sum())


def agreement(
    reader: EvaluatorReader, other: EvaluatorReader, batches: Batches
) -> dict[str, float]:
    """Of each factor, how alike two evaluators read the same images.

    The share of images read alike, of discrete factors; one less the mean difference, in parts of
    the range, of continuous ones.

    Raises:
        CheckpointError: when they read other factors.
    """
    check_factors(other, reader.graph)
    (one, two), _ = _readings([reader, other], batches)
    alike = {}
    for column, factor in enumerate(reader.graph.factors):
        a, b = factor.snap(one[:, column]), factor.snap(two[:, column])
        same = 1 - (a - b).abs() if factor.continuous else ((a - b).abs() < 1e-6).float()
        alike[factor.name] = float(same.mean())
    return alike


def check_factors(other: EvaluatorReader, graph: CausalGraph) -> None:
    """CheckpointError unless the evaluator to check by reads the factors of ``graph``."""
    if graph.factors != other.graph.factors:
        raise CheckpointError(
            f"The evaluator to check by reads {', '.join(other.graph.names)}, this one "
            f"{', '.join(graph.names)}: train it on the same data."
        )


def _readings(readers: list[EvaluatorReader], batches: Batches) -> tuple[list[Tensor], Tensor]:
    """Readings ``[N, K]`` by each reader, and the factors ``[N, K]``."""
    read: list[list[Tensor]] = [[] for _ in readers]
    factors = []
    for batch in batches:
        for reader, found in zip(readers, read, strict=True):
            found.append(reader.read(batch["image"]))
        factors.append(batch["factors"])
    return [torch.cat(found) for found in read], torch.cat(factors)
