r"""What an uncertain reading means, once the causal model has had its say.

A projector reads :math:`z_k = \hat z_k \pm \sigma_k`. Were that abducted as it is, a misreading
would pass for exogenous noise, and go with it into every counterfactual. But the causal model knows
what values are likely, given the causes:

.. math::
    p(z_k \mid x, pa_k) \propto N(\hat z_k;\, z_k, \sigma_k^2)
    \,\big[(1 - \delta)\, p(z_k \mid pa_k) + \delta\big]

whose mean is taken, factor by factor in causal order. So a mechanism that is nearly certain
corrects the reading, and a wide one leaves it alone. The *contamination* δ is the probability that the
factor does not follow its mechanism, because somebody set it before the picture was taken, or
because the mechanism is wrong: then any value of its range is as likely, and a reading far from the
mechanism's value stands. Discrete factors stay as they are read.

Our addition; the paper abducts what is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffcf.causal.equations import StructuralEquations
from diffcf.causal.mechanisms import with_column

CONTAMINATION = 0.5
"""On Pendulum and Flow, as good for observed pictures as less, and safer for pictures in which a
factor was set."""
POINTS, REACH = 513, 4.0  # of a grid about the reading, up to so many of its standard deviations


def refine(
    equations: StructuralEquations,
    adjacency: Tensor,
    order: Sequence[int],
    factors: Tensor,
    deviation: Tensor,
    contamination: float,
) -> Tensor:
    """Factors ``[B, K]`` in [0, 1] units, of ``factors`` as they were read with standard
    ``deviation``, both ``[B, K]``.

    Args:
        equations: the mechanisms.
        adjacency: ``[K, K]`` bool, ``[i, j]``: j is a parent of i.
        order: columns, causes first; those without parents are left alone.
        contamination: δ in [0, 1].
    """
    offsets = torch.linspace(-REACH, REACH, POINTS, dtype=factors.dtype, device=factors.device)
    log_follows = math.log1p(-contamination) if contamination < 1 else -math.inf
    unlike = offsets.new_tensor(contamination).log()
    for k in order:
        if equations.continuous(k) and adjacency[k].any():
            values = factors[:, k, None] + deviation[:, k, None] * offsets
            density = equations.log_density(values, factors, adjacency, k)
            prior = torch.logaddexp(density + log_follows, unlike)
            weight = (prior - 0.5 * offsets.square()).softmax(dim=1)
            factors = with_column(factors, k, (weight * values).sum(dim=1))
    return factors
