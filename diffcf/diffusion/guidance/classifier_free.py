r"""Guidance without a classifier: the generator's own conditional and unconditional predictions.

With :math:`v_\emptyset` the unconditional velocity and :math:`v_g` that conditioned on the factors
of a group g alone,

.. math:: \tilde v = v_\emptyset + \sum_g w_g\,(v_g - v_\emptyset).

One group of all factors is classifier-free guidance. Two groups, the factors that the intervention
reaches (those set and their descendants) and those that it leaves alone, are its decoupled form for
counterfactuals: the factors that change are guided without guiding those that stay. v is linear in
both ε and the clean image, so that combining v combines them.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    Decoupled Classifier-Free Guidance for Counterfactual Diffusion Models (Xia et al., 2025),
    https://arxiv.org/abs/2506.14399
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.diffusion.process import Denoiser, VelocityOf, denoiser_of


@dataclass(frozen=True)
class ClassifierFree:
    """Weights of classifier-free guidance; 1 is plain conditioning.

    The generator must have been trained with factors dropped (``all_dropout``; for two groups
    ``factor_dropout`` as well), or its unconditional prediction means nothing.

    Attributes:
        weight: of all factors, or of those that the intervention reaches.
        kept: of those that it does not reach; None makes one group of all.
    """

    weight: float = 1.5
    kept: float | None = None

    def wrap(self, generator: VelocityOf, factors: Tensor, reached: Tensor) -> Denoiser:
        """The guided denoiser toward ``factors`` ``[B, K]`` in [0, 1] units.

        ``reached`` ``[B, K]`` (bool) are the factors that the intervention reaches.
        """
        weights, groups = [self.weight], [torch.ones_like(reached)]
        if self.kept is not None:
            weights, groups = [self.weight, self.kept], [reached, ~reached]
        masks = torch.cat([torch.zeros_like(reached), *groups])
        copies = len(groups) + 1
        condition = factors.repeat(copies, 1)

        def guided(x_t: Tensor, t: Tensor) -> Tensor:
            v = generator(x_t.repeat(copies, 1, 1, 1), t.repeat(copies), condition, masks)
            total, *conditional = v.chunk(copies)
            changes = [part - total for part in conditional]
            for weight, change in zip(weights, changes, strict=True):
                total = total + weight * change
            return total

        return denoiser_of(guided)
