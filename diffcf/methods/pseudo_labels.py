r"""Pseudo-labels: what the projector reads stands in for a missing label, once it is sure.

The clean image is read, and the reading refined by the causal model beside the labels that are
there (:func:`diffcf.causal.completed`). It stands in for a missing label where the projector's
own posterior has a standard deviation of at most τ in every column of the factor's code: in [0, 1]
units for a number, :math:`\sqrt{p (1 - p)}` for the probability p of a binary factor or of a
category. So τ = .05 takes a number that is read to a twentieth of its range, and a category of
99.75%.

It conditions the generator. Projector and causal model learn from labels only: from its own
readings, refined by the other, either would learn nothing but to be surer of them, and the error of
a reading is no noise of a mechanism.

Reference: Pseudo-Label (Lee, 2013); the refinement is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcf.causal import (
    CERTAIN,
    CONTAMINATION,
    FactorPosterior,
    Marks,
    StructuralModel,
    completed,
)


@torch.no_grad()
def with_pseudo_labels(
    projector: nn.Module,
    nscm: StructuralModel,
    image: Tensor,
    factors: Tensor,
    marks: Marks,
    deviation: float,
) -> Tensor:
    """Factors ``[B, K]`` of images, fewer of them NaN; what was observed stays as it is.

    ``deviation`` is τ. Nothing is drawn, and no gradient goes through.
    """
    training = projector.training
    projector.eval()
    posterior: FactorPosterior = projector(image, image.new_zeros(len(image)))
    projector.train(training)
    graph = nscm.graph
    parts = torch.split(posterior.variance, graph.widths, dim=1)
    widest = torch.stack([part.amax(dim=1) for part in parts], dim=1).sqrt()
    # What somebody set does not follow its mechanism, which would only mislead.
    by_hand = graph.per_column(marks.intervened)
    variance = torch.where(by_hand, CERTAIN, posterior.variance)
    read = completed(nscm, posterior.mean, variance, factors, CONTAMINATION)
    stands = factors.isnan() & (widest <= deviation)
    return torch.where(stands, graph.clip(read)[0].to(factors), factors)
