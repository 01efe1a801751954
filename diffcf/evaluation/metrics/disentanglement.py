r"""Whether each number of a code depends on one factor, and on that factor alone: DCI and IRS.

**DCI** learns every factor from the codes by boosted trees, and asks how the importances R
``[E, K]`` are spread. With :math:`p_{ij} = R_{ij} / \sum_j R_{ij}` over the factors of a code, and
:math:`q_{ij} = R_{ij} / \sum_i R_{ij}` over the codes of a factor,

.. math:: D_i = 1 - H_K(p_{i\cdot}), \quad D = \sum_i \rho_i D_i, \quad
          \rho_i = \frac{\sum_j R_{ij}}{\sum_{ij} R_{ij}}, \qquad C_j = 1 - H_E(q_{\cdot j}),

entropies to the base K and E. Informativeness is 1 less the error on rows that the trees did not
see, in units of the error of guessing (the mean; the commonest level of a discrete factor).

**IRS** (:func:`irs`) asks how far a code can be driven by everything but one factor, against how
far it goes at all. Both suppose that factors vary independently: where one causes another, mixed
codes score higher than they should.

References:
    Eastwood & Williams, A framework for the quantitative evaluation of disentangled
    representations, ICLR 2018 (section 2); Suter, Miladinović, Schölkopf & Bauer, Robustly
    disentangled causal mechanisms, ICML 2019, https://arxiv.org/abs/1811.00007 (section 4).
"""

from __future__ import annotations

from abc import abstractmethod
from math import log

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation.metrics.image_metric import RowMetric, levels


class CodeMetric(RowMetric):
    """Keeps codes and factors; here an image is not a number, so there is no mean over images.

    ``codes`` says how many numbers a code has; None for as many as ``graph`` has factors.
    """

    higher_is_better = True

    def __init__(self, graph: CausalGraph, codes: int | None = None, **kwargs: object) -> None:
        widths = {"codes": len(graph) if codes is None else codes, "factors": len(graph)}
        super().__init__({name: torch.zeros(0, w) for name, w in widths.items()}, **kwargs)
        self.graph, self.widths = graph, widths

    def update(self, codes: Tensor, factors: Tensor, index: Tensor | None = None) -> None:
        """Add codes ``[B, E]`` of images, and their factors ``[B, K]`` in [0, 1] units.

        Raises:
            ValueError: for shapes that do not fit, and values that are not finite.
        """
        name, expected = type(self).__name__, [(len(codes), w) for w in self.widths.values()]
        if [codes.shape, factors.shape] != expected:
            raise ValueError(
                f"{name} takes codes [B, {self.widths['codes']}] and factors "
                f"[B, {len(self.graph)}], got {list(codes.shape)} and {list(factors.shape)}."
            )
        check_finite(codes, factors, name)
        self.keep(index, codes=codes, factors=factors)

    def compute(self) -> dict[str, Tensor]:
        """Results by name; ValueError without any image, and as the functional form raises it."""
        measured = self._measured(*self.kept("codes", "factors")[:2])
        return {name: torch.tensor(value, device=self.device) for name, value in measured.items()}

    @abstractmethod
    def _measured(self, codes: Tensor, factors: Tensor) -> dict[str, float]:
        """Results by name of codes ``[N, E]`` and factors ``[N, K]``."""


def check_finite(codes: Tensor, factors: Tensor, name: str) -> None:
    for what, values in (("code", codes), ("factor", factors)):
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} met a {what} that is NaN or infinite: find its source.")


LEAST_IMAGES = 40  # of which the trees are judged on ten
LEAST_PER_BIN = 10
TINY = 1e-12  # counts as no importance at all


def disentanglement(importance: Tensor) -> Tensor:
    """D_i ``[E]`` of importances ``[E, K]``: 1 for a code of one factor, 0 for one of all alike.

    A row without any importance is uniform.
    """
    if importance.shape[1] == 1:
        return importance.new_ones(len(importance))
    share = importance + TINY
    share = share / share.sum(dim=1, keepdim=True)
    return 1 - torch.special.entr(share).sum(dim=1) / log(importance.shape[1])


def completeness(importance: Tensor) -> Tensor:
    """C_j ``[K]`` of importances ``[E, K]``: 1 for a factor in one code, 0 for one in all alike."""
    return disentanglement(importance.T)


def dci(codes: Tensor, factors: Tensor, graph: CausalGraph, seed: int = 0) -> dict[str, float]:
    """Disentanglement, completeness and informativeness, each 1 at best; see the module.

    Trees learn from three quarters of the rows, chosen by ``seed``, and are judged on the others.

    Args:
        codes: ``[N, E]``. A category should be one number (:meth:`CausalGraph.decode`): as one-hot
            columns it is spread over codes, and so incomplete.
        factors: ``[N, K]`` in [0, 1] units.
        graph: names the factors and says which are discrete.
        seed: of the split and of the trees.

    Returns:
        ``dci/disentanglement``, ``dci/completeness`` and ``dci/informativeness`` (means over
        factors; below 0 the latter is worse than guessing), and the last two by factor name.

    Raises:
        ValueError: for shapes that do not fit, values that are not finite, fewer than 40 rows, and
            a factor with a single value in the rows to learn from.
    """
    codes, factors = _checked(codes, factors, "DCI", LEAST_IMAGES)
    if factors.shape[1] != len(graph):
        raise ValueError(
            f"DCI needs factors with a column for each of {', '.join(graph.names)}, got "
            f"{factors.shape[1]} columns."
        )
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    held, train = order.split([len(order) // 4, len(order) - len(order) // 4])
    learned = [
        _tree_importances(codes, column, factor, train, held, seed)
        for factor, column in zip(graph.factors, factors.unbind(1), strict=True)
    ]
    importance = torch.stack([column for column, _ in learned], dim=1)
    share = importance.sum(1) / importance.sum().clamp_min(TINY)
    result = {"dci/disentanglement": float(share @ disentanglement(importance))}
    informativeness, complete = [1 - error for _, error in learned], completeness(importance)
    by_factor = (("completeness", complete.tolist()), ("informativeness", informativeness))
    for name, values in by_factor:
        result[f"dci/{name}"] = sum(values) / len(graph)
        result |= {f"dci/{name}/{n}": v for n, v in zip(graph.names, values, strict=True)}
    return result


def irs(codes: Tensor, factors: Tensor, bins: int = 10) -> float:
    r"""Interventional robustness score, in [0, 1]: 1 where each code is driven by one factor alone.

    For code l and factor i, with the largest deviation taken within each bin of the factor,

    .. math:: \mathrm{IRS}_{li} = 1 - \frac{\mathbb{E}_{g_i} \max \lvert z_l -
              \mathbb{E}[z_l \mid g_i] \rvert}{\max \lvert z_l - \mathbb{E}[z_l] \rvert}, \qquad
              \mathrm{IRS} = \frac{\sum_l w_l \max_i \mathrm{IRS}_{li}}{\sum_l w_l},

    w_l the denominator. Our reading of the conditional mean: a line within each bin, since a
    constant would take the factor's own change there for that of others. Gaussian codes that depend
    on no factor score about 0.2, not 0: the largest of few deviations is less than that of many.

    Args:
        codes, factors: ``[N, E]`` and ``[N, K]``.
        bins: per factor, with equally many rows; of a factor with no more values, each is one.

    Raises:
        ValueError: for shapes that do not fit, values that are not finite, fewer than ten rows for
            each bin, and fewer than two bins.
    """
    if bins < 2:
        raise ValueError(f"IRS compares bins of a factor: 'bins' must be at least 2, not {bins}.")
    codes, factors = _checked(codes, factors, "IRS", LEAST_PER_BIN * bins)
    travel = (codes - codes.mean(0)).abs().amax(0)
    driven = [_deviation(codes, column, bins) for column in factors.unbind(1)]
    robust = 1 - torch.stack(driven, dim=1) / travel.clamp_min(TINY)[:, None]
    # A bin may lie at one end of a code, and deviate farther than the whole from its middle.
    best = robust.amax(1).clamp_min(0)
    return float(best @ travel / travel.sum().clamp_min(TINY))


class DCI(CodeMetric):
    """:func:`dci` of all images; ``seed`` is that of its split.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")])
    >>> metric, factors = DCI(graph), torch.rand(80, 2, generator=torch.Generator().manual_seed(0))
    >>> metric.update(factors.flip(1), factors)
    >>> bool(metric.compute()["dci/disentanglement"] > 0.95)
    True
    """

    def __init__(
        self, graph: CausalGraph, codes: int | None = None, seed: int = 0, **kwargs: object
    ) -> None:
        super().__init__(graph, codes, **kwargs)
        self.seed = seed

    def _measured(self, codes: Tensor, factors: Tensor) -> dict[str, float]:
        return dci(codes, factors, self.graph, self.seed)


class IRS(CodeMetric):
    """:func:`irs` of all images, named ``irs``.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("sun"), Factor("shade")])
    >>> metric, factors = IRS(graph), torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    >>> metric.update(1 - factors.flip(1), factors)
    >>> round(metric.compute()["irs"].item(), 3)
    1.0
    """

    def __init__(
        self, graph: CausalGraph, codes: int | None = None, bins: int = 10, **kwargs: object
    ) -> None:
        super().__init__(graph, codes, **kwargs)
        self.bins = bins

    def _measured(self, codes: Tensor, factors: Tensor) -> dict[str, float]:
        return {"irs": irs(codes, factors, self.bins)}


def _checked(codes: Tensor, factors: Tensor, name: str, least: int) -> tuple[Tensor, Tensor]:
    """Both in float64 on the CPU, where trees grow."""
    if codes.dim() != 2 or factors.dim() != 2 or len(codes) != len(factors):
        raise ValueError(
            f"{name} takes codes [N, E] and factors [N, K] of the same images, got "
            f"{list(codes.shape)} and {list(factors.shape)}."
        )
    if len(codes) < least:
        raise ValueError(f"{name} needs at least {least} images, got {len(codes)}: give it more.")
    check_finite(codes, factors, name)
    return codes.detach().cpu().double(), factors.detach().cpu().double()


def _tree_importances(
    codes: Tensor, column: Tensor, factor: Factor, train: Tensor, held: Tensor, seed: int
) -> tuple[Tensor, float]:
    """Importances of codes ``[E]``, and the error on ``held`` in units of that of guessing."""
    # Boosted trees, because each split weighs every code, and late trees, which fit what is left of
    # noise, weigh little. Imported here, because no other command should wait for it.
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    discrete = not factor.continuous
    labels = levels(factor, column) if discrete else column
    if (labels[train] == labels[train[0]]).all():
        raise ValueError(
            f"DCI cannot learn factor '{factor.name}', which has one value in all of {len(train)} "
            "images: give it more images, or a graph without that factor."
        )
    kind = GradientBoostingClassifier if discrete else GradientBoostingRegressor
    trees = kind(random_state=seed).fit(codes[train].numpy(), labels[train].numpy())
    miss = torch.from_numpy(trees.predict(codes[held].numpy())) - labels[held]
    if discrete:
        commonest = labels.unique(return_counts=True)[1].max() / len(labels)
        error = (miss != 0).double().mean() / (1 - commonest)
    else:
        error = miss.square().mean().sqrt() / labels.std(correction=0)
    return torch.from_numpy(trees.feature_importances_), float(error)


def _deviation(codes: Tensor, factor: Tensor, bins: int) -> Tensor:
    """E_g max |z_l − E[z_l | g]| ``[E]``, of codes ``[N, E]`` and one factor ``[N]``."""
    levels, place = factor.unique(return_inverse=True)
    if len(levels) > bins:
        edges = factor.quantile(torch.linspace(0, 1, bins + 1, dtype=factor.dtype)[1:-1])
        place = torch.bucketize(factor.contiguous(), edges, right=True)
    total = codes.new_zeros(codes.shape[1])
    for here in (place == b for b in place.unique()):
        x, z = factor[here] - factor[here].mean(), codes[here] - codes[here].mean(0)
        slope = x @ z / x.square().sum().clamp_min(TINY)
        total += here.sum() * (z - x[:, None] * slope).abs().amax(0)
    return total / len(codes)
