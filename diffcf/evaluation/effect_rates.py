r"""How often effects follow in the causal model, beside how often they do in the data.

Where mechanisms are random and no scene is known, what an effect should be in one image cannot be
said; how often it should follow can, as far as the graph is right. For a binary cause c and a
binary child e of it,

.. math:: P(e = 1 \mid do(c = v)) =
    \operatorname{mean}_i \hat P(e = 1 \mid c = v, \text{other parents of } e \text{ in image } i)

(the truncated factorisation; Pearl, Causality, section 3.2), with the frequency among training
images of these values for :math:`\hat P`. The causal model's rate is the mean over the same images
of its counterfactuals. No image is drawn for either. Effects whose other parents follow from the
cause, too, are left out: what these would be, only a model says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, StructuralModel, row_keys

LEAST = 20  # training images of a combination of values, below which its frequency says little


@torch.no_grad()
def effect_rates(
    nscm: StructuralModel,
    graph: CausalGraph,
    observed: Tensor,
    factors: Tensor,
    seed: int = 0,
    intervened: Tensor | None = None,
) -> dict[str, float]:
    """Rates by name, and ``rate_gap``, the mean distance of the two.

    ``model_rate/<cause>=<value>/<effect>`` and ``data_rate/…`` of every binary cause and binary
    child whose parents are all discrete and were seen together often enough.

    Args:
        nscm: the causal model.
        graph: of the factors.
        observed: ``[N, K]`` factors of the training images, NaN where a label is missing.
        factors: ``[M, K]`` factors of the images that are intervened upon, on the model's device.
        seed: of the noise that abduction leaves open.
        intervened: ``[N, K]`` bool, what somebody set in these training images, which tells nothing
            of its frequency; None for nothing.

    Raises:
        GraphError: for factors that are NaN or outside their range.
    """
    result: dict[str, float] = {}
    gaps: list[float] = []
    keys = row_keys(torch.arange(len(factors), device=factors.device), seed)
    exogenous, observed = nscm.abduct(factors, keys), observed.to(factors)
    usable = ~observed.isnan()
    if intervened is not None:
        usable = usable & ~intervened.to(usable.device)
    for cause, value, effects in _questions(graph):
        column = graph.column(cause)
        mask = torch.zeros_like(factors, dtype=torch.bool)
        mask[:, column] = True
        values = torch.full_like(factors, value)
        predicted = nscm.predict(factors, exogenous, values, mask)
        for effect in effects:
            rows = observed[usable[:, graph.column(effect)]]
            frequency = _frequency(graph, effect, rows, predicted)
            if frequency is None:
                continue
            rate = float(predicted[:, graph.column(effect)].mean())
            where = f"{cause}={value:g}/{effect}"
            result |= {f"model_rate/{where}": rate, f"data_rate/{where}": frequency}
            gaps.append(abs(rate - frequency))
    return result | ({"rate_gap": sum(gaps) / len(gaps)} if gaps else {})


def _questions(graph: CausalGraph) -> list[tuple[str, float, list[str]]]:
    """Binary causes, each value, and those of their children whose rate can be counted."""
    kinds = {factor.name: factor for factor in graph.factors}

    def counted(cause: str, effect: str) -> bool:
        parents = graph.parents(effect)
        follow = graph.descendants(cause) & set(parents)
        continuous = any(kinds[parent].continuous for parent in parents)
        return kinds[effect].kind == "binary" and not continuous and not follow

    asked = []
    for cause in graph.names:
        effects = [effect for effect in graph.children(cause) if counted(cause, effect)]
        if kinds[cause].kind == "binary" and effects:
            asked += [(cause, value, effects) for value in (0.0, 1.0)]
    return asked


def _frequency(graph: CausalGraph, effect: str, observed: Tensor, asked: Tensor) -> float | None:
    """Mean over rows ``asked`` of the effect's frequency among ``observed`` with such parents.

    None where a combination that is asked was seen in fewer than :data:`LEAST` images.
    """
    parents = [graph.column(name) for name in graph.parents(effect)]
    shown, count = asked[:, parents].unique(dim=0, return_counts=True)
    total = 0.0
    for combination, times in zip(shown, count.tolist(), strict=True):
        alike = (observed[:, parents] - combination).abs().amax(dim=1) < 1e-4
        if alike.sum() < LEAST:
            return None
        total += times * float(observed[alike, graph.column(effect)].mean())
    return total / len(asked)
