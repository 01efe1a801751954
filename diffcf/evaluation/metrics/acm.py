r"""Whether the factors read off counterfactual images are those they should show: ACM, and rates.

**ACM** is the distance of the factors that are read from the target,

.. math:: \mathrm{ACM} = \frac{1}{K} \sum_k \lvert \hat z_k(x_{cf}) - z_{cf, k} \rvert

in [0, 1] units, over *all* factors: the intervened one, its descendants, and those that must stay.
The term of a categorical factor is 0 for the right category and 1 for another. The definition is
ours: the paper's own is not available to us.

**Rates** are for binary factors with random mechanisms, where no single target is right: how often
an effect reads as 1 under an intervention, beside its true probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.metrics.image_metric import ImageMetric, factor_means


def absolute_counterfactual_mismatch(
    read: Tensor, target: Tensor, graph: CausalGraph | None = None
) -> Tensor:
    """Per image and factor, ``[B, K]``; its mean over factors is the ACM of each image.

    ``graph`` says which are categorical; without it all are compared as numbers.

    Raises:
        ValueError: when shapes differ, or an entry is not finite (a reader must always answer).
    """
    fits = read.dim() == 2 and (graph is None or read.shape[1] == len(graph))
    if read.shape != target.shape or not fits:
        factors = "[B, K]" if graph is None else f"[B, {len(graph)}]"
        raise ValueError(
            f"ACM compares factors {factors} with factors {factors}, got {tuple(read.shape)} and "
            f"{tuple(target.shape)}."
        )
    mismatch = (read.float() - target.float()).abs()
    if not torch.isfinite(mismatch).all():
        raise ValueError("ACM met a reading or a target that is NaN or infinite: fix the reader.")
    if graph is None:
        return mismatch
    places = torch.tensor([max(f.width - 1, 1) for f in graph.factors], device=read.device)
    other = (mismatch * places > 0.5).to(mismatch.dtype)
    return torch.where(graph.categorical.to(read.device), other, mismatch)


class ACM(ImageMetric):
    """ACM per intervened factor, per factor read, over roots and leaves, per sequential step.

    Means over interventions are means of the means of each intervened factor; the mean of a step is
    over its images, whatever factor was set.

    Args:
        graph: names the factors, their roots and leaves.
        steps: longest sequence of interventions; 1 for single interventions.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> acm = ACM(CausalGraph([Factor("sun"), Factor("shade")], [("sun", "shade")]))
    >>> acm.update(torch.tensor([[0.5, 0.2]]), torch.tensor([[0.5, 0.4]]), torch.tensor([0]))
    >>> {name: round(float(value), 3) for name, value in acm.compute().items()}
    {'acm': 0.1, 'acm/sun': 0.1, 'acm/roots': 0.1, 'acm/sun/sun': 0.0, 'acm/sun/shade': 0.2}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, steps: int = 1, **kwargs: object) -> None:
        super().__init__(steps * len(graph), len(graph), **kwargs)
        self.graph, self.steps = graph, steps

    def update(
        self,
        read: Tensor,
        target: Tensor,
        intervened: Tensor,
        step: int = 0,
        index: Tensor | None = None,
    ) -> None:
        """Add factors ``[B, K]`` read off counterfactual images, and those they should have.

        ``intervened`` ``[B]`` are the columns of the factors that ``step``, counted from 0, sets.

        Raises:
            ValueError: for shapes, columns or a step that do not fit, and for NaN.
        """
        mismatch = absolute_counterfactual_mismatch(read, target, self.graph)
        last = len(self.graph) - 1
        if intervened.shape != read.shape[:1] or ((intervened < 0) | (intervened > last)).any():
            raise ValueError(
                f"ACM takes the column, 0 to {last}, of the factor set in each of the {len(read)} "
                f"images, got {intervened.tolist()}."
            )
        if not 0 <= step < self.steps:
            raise ValueError(
                f"ACM was made for {self.steps} step(s), counted from 0, and got step {step}: make "
                "it with more steps."
            )
        self._add(mismatch, step * len(self.graph) + intervened, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Results by name; interventions that never occurred are left out."""
        names = self.graph.names
        result = factor_means("acm", means.mean(dim=2), seen, self.graph)
        for k in seen:
            result |= {f"acm/{names[k]}/{other}": means[:, k, j] for j, other in enumerate(names)}
        return result

    def _weighted(self, values: Tensor, group: Tensor, weight: Tensor) -> dict[str, Tensor]:
        # Factors are not set equally often in every step, so the rows themselves are pooled over
        # steps: a mean of the steps' means would give the rows of a rare pair more weight.
        step, column = group // len(self.graph), group % len(self.graph)
        result = super()._weighted(values, column, weight)
        if self.steps > 1:
            for s in step.unique().tolist():
                w = weight[:, step == s]
                result[f"acm/step_{s + 1}"] = w @ values[step == s].mean(dim=1) / w.sum(dim=1)
        return result


class CounterfactualRates(ImageMetric):
    """Mean reading and mean true probability per factor set, value set to, and factor read.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("rain", "binary"), Factor("wet", "binary")], [("rain", "wet")])
    >>> rates = CounterfactualRates(graph)
    >>> do = torch.tensor([1.0])
    >>> rates.update(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.9]]), do, column=0)
    >>> {name: round(float(value), 2) for name, value in rates.compute().items()}
    {'rate/rain=1/wet': 1.0, 'true_rate/rain=1/wet': 0.9, 'rate_error': 0.1}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: object) -> None:
        # Group: the factor set and its value; quantities: what is read, then what is true.
        super().__init__(groups=2 * len(graph), quantities=2 * len(graph), **kwargs)
        self.graph = graph

    def update(
        self,
        read: Tensor,
        probability: Tensor,
        values: Tensor,
        column: int,
        index: Tensor | None = None,
    ) -> None:
        """Add factors ``[B, K]`` read where ``column`` was set to ``values`` ``[B]`` of 0 and 1.

        ``probability`` ``[B, K]`` is that of 1 in the true counterfactual world.
        """
        group = 2 * column + (values >= 0.5).long()
        self._add(torch.cat([read, probability.to(read)], dim=1), group, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """Rates of the descendants of each factor, and ``rate_error``, their mean difference."""
        result: dict[str, Tensor] = {}
        errors = []
        size, names = len(self.graph), self.graph.names
        for group in seen:
            cause, value = names[group // 2], group % 2
            for effect in sorted(self.graph.descendants(cause), key=self.graph.column):
                place = self.graph.column(effect)
                read, true = means[:, group, place], means[:, group, size + place]
                result[f"rate/{cause}={value}/{effect}"] = read
                result[f"true_rate/{cause}={value}/{effect}"] = true
                errors.append((read - true).abs())
        if errors:
            result["rate_error"] = torch.stack(errors).mean(dim=0)
        return result
