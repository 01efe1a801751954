"""Classifiers whose bias is known, to measure an audit by: they read an image by the scene's ruler.

The exact effect upon such a score is that between exact counterfactual pictures, which
:class:`diffcf.evaluation.ExactMethod` draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcf.causal import Reader
from diffcf.evaluation.audit.effects import means
from diffcf.evaluation.audit.scores import AuditScores

STEEPNESS = 4.0
"""Standard deviation of the weights: over a factor's whole range a logit moves by some 4."""


INTERVAL_IMAGES = 64
"""Images that a classifier's interval is from, at most."""


class PlantedClassifiers:
    """``count`` random classifiers sigmoid(w · (z − ½)) of the factors z ``[B, K]`` that are read.

    Each is an output; its weights are drawn from N(0, 4²).

    Args:
        reader: reads the factors, such as a scene.
        factors: how many, K.
        count: of classifiers, L.
        seed: of their weights.
    """

    def __init__(self, reader: Reader, factors: int, count: int, seed: int = 0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self.reader = reader
        self.weight = STEEPNESS * torch.randn(count, factors, generator=drawn, dtype=torch.float64)

    def __call__(self, images: Tensor) -> Tensor:
        """Scores ``[B, L]`` in (0, 1) of images ``[B, C, H, W]``."""
        factors = self.reader.read(images).cpu().double()
        return ((factors - 0.5) @ self.weight.T).sigmoid()


def planted_errors(
    audited: AuditScores,
    exact: AuditScores,
    population: AuditScores,
    each: int = INTERVAL_IMAGES,
    seed: int = 0,
) -> list[dict[str, object]]:
    """How far audited average effects are off, and how often their intervals hold the exact ones.

    ``error`` is Σ|audited − exact| / Σ|exact| over the classifiers, of the same images: what the
    counterfactuals get wrong. ``sampling_error`` compares with the exact effect in the population.
    ``coverage`` is the share of classifiers whose 95% interval holds the latter. Intervals of one
    sample would be right or wrong together: for it each classifier is audited on images of its own,
    ``each`` of them at random. Give several times as many, or these samples overlap.

    Args:
        audited: scores of N images and their counterfactuals by a method.
        exact: of the same images and exact counterfactuals.
        population: of all images that those N were drawn from, and exact counterfactuals.
        each: how many of the N images a classifier's interval is from.
        seed: of these images, and of the bootstrap.

    Returns:
        Of each contrast, by total and direct effect.
    """
    rows = []
    for found, right, whole in zip(
        audited.contrasts, exact.contrasts, population.contrasts, strict=True
    ):
        row: dict[str, object] = {"contrast": found.contrast.title}
        for kind in ("total", "direct"):
            own, same, all_of = (_effects(getattr(part, kind)) for part in (found, right, whole))
            average, truth, expected = own.mean(dim=0), same.mean(dim=0), all_of.mean(dim=0)
            row[kind] = {
                "exact": expected.abs().mean().item(),
                "error": _relative(average, truth),
                "sampling_error": _relative(average, expected),
                "coverage": _coverage(own, expected, each, seed),
            }
        rows.append(row)
    return rows


def _effects(scores: Sequence[Tensor]) -> Tensor:
    """``[N, L]``."""
    before, after = scores
    return after - before


def _relative(found: Tensor, exact: Tensor) -> float:
    return ((found - exact).abs().sum() / exact.abs().sum()).item()


def _coverage(effects: Tensor, exact: Tensor, each: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    held = []
    for effect, right in zip(effects.unbind(dim=1), exact.tolist(), strict=True):
        some = effect[torch.randperm(len(effect), generator=generator)[:each]]
        (interval,) = means(some[:, None], seed=seed)[0]
        held.append(interval.low <= right <= interval.high)
    return sum(held) / len(held)
