r"""Effectiveness: the factor that was set reads as it was set.

.. math:: \mathrm{effectiveness}_k = \lvert \hat z_k(x_{cf}) - z_{cf, k} \rvert, \qquad
    \text{under } \mathrm{do}(z_k)

in [0, 1] units: the one term of ACM (:mod:`diffcf.evaluation.metrics.acm`) that belongs to the intervened
factor. Of discrete factors the accuracy, F1 and AUROC are given too. One of the three axioms of
counterfactuals of Monteiro et al., Measuring axiomatic soundness of counterfactual image models,
ICLR 2023, https://arxiv.org/abs/2303.01274, who read with a classifier or regressor trained apart.

It does not see what happens to the other factors, nor whether the picture is still of the same
thing: a method that draws any picture with the right factor is perfect here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    multiclass_f1_score,
)

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means

ERROR, HIT, READING, VALUE = range(4)
"""Quantities of a row; the last two are kept for the scores of the whole set."""


def effectiveness_error(read: Tensor, target: Tensor, graph: CausalGraph, column: int) -> Tensor:
    """Per image, ``[B]``: distance of the reading of factor ``column`` from its value set.

    For a categorical factor 0 where it reads as the right category, 1 where as another.

    Raises:
        ValueError: for shapes that do not fit, or an entry of the column that is not finite.
    """
    if read.shape != target.shape or read.dim() != 2 or read.shape[1] != len(graph):
        raise ValueError(
            f"Effectiveness compares factors [B, {len(graph)}] with factors [B, {len(graph)}], got "
            f"{tuple(read.shape)} and {tuple(target.shape)}."
        )
    factor = graph.factors[column]
    reading, value = read[:, column].float(), target[:, column].float()
    if not torch.isfinite(reading - value).all():
        raise ValueError(
            f"Effectiveness met a reading or a target of '{factor.name}' that is NaN or infinite: "
            "fix the reader."
        )
    if factor.categories:
        return (_level(factor, reading) != _level(factor, value)).float()
    return (reading - value).abs()


class Effectiveness(ImageMetric):
    """Does the factor that was set read as set?

    - ``effectiveness/<name>``: mean error, low is good; of a binary factor, of the reader's
      probability; of a categorical one, the share read as another category. Over all factors it is
      ``effectiveness``, over roots and leaves ``effectiveness/roots`` and ``/leaves``.
    - ``accuracy/<name>``: share of the images in which a discrete factor reads as set. A binary one
      reads as 1 from 0.5 on.
    - ``effectiveness_f1/<name>``: F1 of 1 for a binary factor, left out where 1 was never set;
      mean over the categories that were set or read (macro F1) for a categorical one.
    - ``effectiveness_auroc/<name>``: of a binary factor's readings, left out where only one value
      was set.

    F1 and AUROC are of the whole set at once, never means over batches or images, and so they have
    no interval: :meth:`intervals` gives those of the means only.

    Args:
        graph: names the factors, and tells roots from leaves.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> effectiveness = Effectiveness(CausalGraph([Factor("age"), Factor("smile", "binary")]))
    >>> read = torch.tensor([[0.5, 0.9], [0.5, 0.2], [0.5, 0.4]])
    >>> target = torch.tensor([[0.5, 1.0], [0.5, 0.0], [0.5, 1.0]])
    >>> effectiveness.update(read, target, column=1)
    >>> result = {name: round(float(v), 3) for name, v in effectiveness.compute().items()}
    >>> result["effectiveness/smile"], result["accuracy/smile"]
    (0.3, 0.667)
    >>> result["effectiveness_f1/smile"], result["effectiveness_auroc/smile"]
    (0.667, 1.0)
    """

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(len(graph), 4, **kwargs)
        self.graph = graph

    def update(
        self, read: Tensor, target: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add images in which factor ``column`` was set; the other columns do not count.

        Args:
            read: factors read off the counterfactual images, ``[B, K]``.
            target: factors they should have, ``[B, K]``.
            column: of the factor that was set.
            index: which image of the set each row is, ``[B]``; None if every row is another.

        Raises:
            ValueError: for shapes that do not fit, and for NaN.
        """
        error = effectiveness_error(read, target, self.graph, column)
        reading, value = read[:, column].to(error), target[:, column].to(error)
        factor = self.graph.factors[column]
        hit = (_level(factor, reading) == _level(factor, value)).to(error)
        self._add(torch.stack([error, hit, reading, value], dim=1), column, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The means; F1 and AUROC are added by :meth:`compute`."""
        graph = self.graph
        groups: dict[str, Sequence[str]] = {"roots": graph.roots, "leaves": graph.leaves}
        result = factor_means("effectiveness", means[..., ERROR], seen, graph.names, groups)
        for k in seen:
            if graph.factors[k].kind != "continuous":
                result[f"accuracy/{graph.names[k]}"] = means[:, k, HIT]
        return result

    def compute(self) -> dict[str, Tensor]:
        """Means, and the scores of the whole set, by name.

        Raises:
            ValueError: when no image was added.
        """
        result = super().compute()
        values, group, _ = self.rows()
        for column, factor in enumerate(self.graph.factors):
            rows = values[group == column]
            if len(rows) and factor.kind != "continuous":
                scores = _scores(factor, rows[:, READING], rows[:, VALUE])
                result |= {f"{name}/{factor.name}": score for name, score in scores.items()}
        return result


def _scores(factor: Factor, reading: Tensor, value: Tensor) -> dict[str, Tensor]:
    """F1 and AUROC of the readings ``[n]`` of a discrete factor that was set to ``value``."""
    found, wanted = _level(factor, reading), _level(factor, value)
    if factor.categories:
        f1 = multiclass_f1_score(found, wanted, num_classes=factor.width, average="macro")
        return {"effectiveness_f1": f1.float()}
    scores = {}
    if wanted.any():
        scores["effectiveness_f1"] = binary_f1_score(found, wanted).float()
        if not wanted.all():
            # Only the order of readings counts. Ranks keep it, and torchmetrics would squash all
            # readings if one of them lay outside [0, 1].
            ranks = reading.unique(return_inverse=True)[1].double()
            ranks = ranks / ranks.max().clamp(min=1)
            scores["effectiveness_auroc"] = binary_auroc(ranks, wanted).float()
    return scores


def _level(factor: Factor, scaled: Tensor) -> Tensor:
    """The level, int64, that each value ``[n]`` stands for; meaningless for continuous factors."""
    return factor.place(scaled) if factor.categories else (scaled >= 0.5).long()
