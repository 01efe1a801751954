r"""The axioms of counterfactuals as distances: composition, reversibility and effectiveness.

Composition: an intervention that sets nothing must change nothing. With f⁽ⁿ⁾ n null interventions,
each upon the image before,

.. math:: \mathrm{composition}(n) = \operatorname{mean}_{c,h,w}
    \tfrac{1}{2} \lvert f^{(n)}(x) - x \rvert.

Reversibility: setting a factor and setting it back must give the factual image; the same distance.
Effectiveness: the factor that was set must read as set; under do(z_k) it is the k-th term of ACM
(:mod:`diffcf.evaluation.metrics.acm`). A method that never changes an image is perfect in the first
two, and one that draws any image with the right factor in the last.

Source: Monteiro et al., Measuring axiomatic soundness of counterfactual image models, ICLR 2023,
https://arxiv.org/abs/2303.01274: the first two by any distance between images, the last by a
classifier or regressor trained apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    multiclass_f1_score,
)

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation.metrics.fidelity import mean_absolute_error, peak_signal_noise_ratio
from diffcf.evaluation.metrics.image_metric import FactorMetric, ImageMetric, factor_means, levels


class Composition(ImageMetric):
    """Distance (0 … 1, low is good) and PSNR (dB, 100 for equal images) after null interventions.

    ``cycles`` says after how many null interventions the image is compared.

    >>> composition = Composition(cycles=(1, 10))
    >>> factual = torch.zeros(2, 3, 8, 8)
    >>> composition.update(factual + 0.02, factual, cycle=1)
    >>> composition.update(factual + 0.2, factual, cycle=10)
    >>> {name: round(float(value), 3) for name, value in composition.compute().items()}
    {'composition/1': 0.01, 'composition_psnr/1': 40.0, 'composition/10': 0.1, \
'composition_psnr/10': 20.0}
    """

    def __init__(self, cycles: Sequence[int] = (1, 10), **kwargs: object) -> None:
        super().__init__(len(cycles), 2, **kwargs)
        self.cycles = tuple(cycles)

    def update(
        self, image: Tensor, factual: Tensor, cycle: int, index: Tensor | None = None
    ) -> None:
        """Add images ``[B, C, H, W]`` in [-1, 1] after ``cycle`` null interventions, and before.

        Raises:
            ValueError: for shapes or a cycle that do not fit, and for NaN.
        """
        if cycle not in self.cycles:
            raise ValueError(
                f"Composition compares after {', '.join(map(str, self.cycles))} null "
                f"intervention(s), not {cycle}: name {cycle} among its cycles."
            )
        distance = mean_absolute_error(image, factual)
        rows = torch.stack([distance, peak_signal_noise_ratio(image, factual)], dim=1)
        self._add(rows, self.cycles.index(cycle), index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """``composition/<n>`` and ``composition_psnr/<n>`` of the cycles that occurred."""
        result: dict[str, Tensor] = {}
        for place in seen:
            cycle = self.cycles[place]
            result[f"composition/{cycle}"] = means[:, place, 0]
            result[f"composition_psnr/{cycle}"] = means[:, place, 1]
        return result


class Reversibility(FactorMetric):
    """Distance (0 … 1) and PSNR (dB) from the factual after do and undo, by intervened factor.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")])
    >>> reversibility, factual = Reversibility(graph), torch.zeros(2, 3, 8, 8)
    >>> reversibility.update(factual + 0.2, factual, column=0)
    >>> result = reversibility.compute()
    >>> {name: round(float(value), 3) for name, value in result.items() if "/" not in name}
    {'reversibility': 0.1, 'reversibility_psnr': 20.0}
    """

    quantity_names = ("reversibility", "reversibility_psnr")

    def update(
        self, image: Tensor, factual: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add images ``[B, C, H, W]`` in [-1, 1] after do and undo, and before."""
        distance = mean_absolute_error(image, factual)
        rows = torch.stack([distance, peak_signal_noise_ratio(image, factual)], dim=1)
        self._add(rows, column, index)


ERROR, HIT, READING, VALUE = range(4)
"""Quantities of a row of :class:`Effectiveness`; the last two serve scores of the whole set."""


def effectiveness_error(read: Tensor, target: Tensor, graph: CausalGraph, column: int) -> Tensor:
    """Per image, ``[B]``: distance of the reading of factor ``column`` from its value set.

    Of a binary factor, of the reader's probability; of a categorical one, 1 where misread, else 0.

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
        return (levels(factor, reading) != levels(factor, value)).float()
    return (reading - value).abs()


class Effectiveness(FactorMetric):
    """Does the factor that was set read as set?

    - ``effectiveness/<name>``: mean of :func:`effectiveness_error` (low is good); also over all
      factors, roots and leaves.
    - ``accuracy/<name>``: share of images in which a discrete factor reads as set (:func:`levels`).
    - ``effectiveness_f1/<name>``: F1 of 1 for a binary factor, left out where 1 was never set;
      macro F1 of the categories that were set or read for a categorical one.
    - ``effectiveness_auroc/<name>``: of a binary factor's readings, left out where only one value
      was set.

    F1 and AUROC are of the whole set at once, so :meth:`intervals` has none for them.

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

    quantity_names = ("effectiveness", "accuracy", "reading", "value")

    def update(
        self, read: Tensor, target: Tensor, column: int, index: Tensor | None = None
    ) -> None:
        """Add factors ``[B, K]`` read, and those to be shown; only ``column`` of them counts."""
        error = effectiveness_error(read, target, self.graph, column)
        reading, value = read[:, column].to(error), target[:, column].to(error)
        factor = self.graph.factors[column]
        hit = (levels(factor, reading) == levels(factor, value)).to(error)
        self._add(torch.stack([error, hit, reading, value], dim=1), column, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The means; F1 and AUROC are added by :meth:`compute`."""
        result = factor_means("effectiveness", means[..., ERROR], seen, self.graph)
        for k in seen:
            if not self.graph.factors[k].continuous:
                result[f"accuracy/{self.graph.names[k]}"] = means[:, k, HIT]
        return result

    def compute(self) -> dict[str, Tensor]:
        """Means, and the scores of the whole set, by name."""
        result = super().compute()
        values, group, _ = self.rows()
        for column, factor in enumerate(self.graph.factors):
            rows = values[group == column]
            if len(rows) and not factor.continuous:
                scores = _scores(factor, rows[:, READING], rows[:, VALUE])
                result |= {f"{name}/{factor.name}": score for name, score in scores.items()}
        return result


def _scores(factor: Factor, reading: Tensor, value: Tensor) -> dict[str, Tensor]:
    """F1 and AUROC of the readings ``[n]`` of a discrete factor that was set to ``value``."""
    found, wanted = levels(factor, reading), levels(factor, value)
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
