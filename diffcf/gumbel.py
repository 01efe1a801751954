r"""Abduction of discrete factors: which noise explains the observed value?

The mechanism of a category is :math:`\arg\max_c (\mathrm{logit}_c + u_c)` with Gumbel u, that of a
binary factor :math:`[\mathrm{logit} + u > 0]` with logistic u, the difference of two Gumbels. The
noise is not determined by the value, so it is drawn from its posterior.

Reference:
    Counterfactual Off-Policy Evaluation with Gumbel-Max SCMs, Oberst & Sontag 2019,
    https://arxiv.org/abs/1905.05824
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["truncated_gumbels", "truncated_logistic"]

# Abducted noise stays this far from the decision, so that rounding cannot flip it.
MARGIN = 1e-3


def truncated_logistic(
    logits: Tensor, positive: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Sample a logistic u given that :math:`[\mathrm{logit} + u > 0]` equals ``positive``.

    Args:
        logits: ``[...]`` log odds of the value 1.
        positive: ``[...]`` bool, the observed value.
        generator: source of randomness, on the device of ``logits``.
    """
    sign = torch.where(positive, 1.0, -1.0).to(logits.dtype)
    uniform = torch.rand(
        logits.shape, dtype=logits.dtype, device=logits.device, generator=generator
    ).clamp(1e-12, 1 - 1e-6)
    # By symmetry sample s·u > -s·logit: its tail probability is uniform in (0, σ(s·logit)).
    log_tail = uniform.log() + F.logsigmoid(sign * logits)
    above = torch.log1p(-log_tail.exp()) - log_tail
    return sign * above.maximum(MARGIN - sign * logits)


def truncated_gumbels(
    logits: Tensor, observed: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""Sample Gumbel u ``[..., C]`` given that ``observed`` is the argmax of ``logits + u``.

    Top down (Maddison et al. 2014, https://arxiv.org/abs/1411.0030): the greatest sum
    is Gumbel with location logsumexp(logits) whichever class attains it; the others are Gumbel, cut
    off there.

    Args:
        logits: ``[..., C]`` log odds of the categories.
        observed: ``[...]`` int64, the observed category.
        generator: source of randomness, on the device of ``logits``.
    """
    uniform = torch.rand(
        logits.shape, dtype=logits.dtype, device=logits.device, generator=generator
    ).clamp(1e-12, 1 - 1e-6)
    gumbel = -(-uniform.log()).log()
    place = observed.unsqueeze(-1)
    top = logits.logsumexp(-1, keepdim=True) + gumbel.gather(-1, place)
    # −log(e^−a + e^−b) is a Gumbel of location `logits` cut off at `top`.
    below = -torch.logaddexp(-(logits + gumbel), -top)
    sums = below.minimum(top - MARGIN).scatter(-1, place, top)
    return sums - logits
