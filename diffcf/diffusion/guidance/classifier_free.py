r"""Guidance without a classifier: the generator's own conditional and unconditional predictions.

With :math:`v_\emptyset` the velocity predicted of no factors and :math:`v_g` of the factors of a
group g alone,

.. math:: \tilde v = v_\emptyset + \sum_g w_g\,(v_g - v_\emptyset).

One group of all factors is classifier-free guidance. Two groups, the factors that the intervention
reaches (those set and their descendants) and those that it leaves alone, are its decoupled form for
counterfactuals: what is to change can be pressed without pressing what is to stay. v is linear in
both ε and the clean image, so that combining v combines them.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    Decoupled Classifier-Free Guidance for Counterfactual Diffusion Models (Xia et al., 2025),
    https://arxiv.org/abs/2506.14399
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcf.diffusion.process import Denoiser, denoiser_of


@dataclass(frozen=True)
class ClassifierFree:
    """How strongly the generator heeds the factors it is told; 1 is plain conditioning.

    The generator must have been trained with factors left out (``all_dropout``; for two groups
    ``factor_dropout`` as well), or what it says without them means nothing.

    Attributes:
        weight: of all factors, or of those that the intervention reaches.
        kept: of those that it does not reach; None makes one group of all.
    """

    weight: float = 1.5
    kept: float | None = None

    def wrap(self, generator: nn.Module, factors: Tensor, reached: Tensor) -> Denoiser:
        """The guided denoiser toward ``factors`` ``[B, K]``.

        Args:
            generator: ``(x_t, t, factors, known) -> v``.
            factors: in [0, 1] units.
            reached: ``[B, K]`` bool, the factors that the intervention reaches.
        """
        if self.kept is None:
            groups = [(self.weight, torch.ones_like(reached))]
        else:
            groups = [(self.weight, reached), (self.kept, ~reached)]
        weights = [weight for weight, _ in groups]
        known = torch.cat([torch.zeros_like(reached), *(mask for _, mask in groups)])
        copies = len(groups) + 1
        told = factors.repeat(copies, 1)

        def pressed(x_t: Tensor, t: Tensor) -> Tensor:
            v = generator(x_t.repeat(copies, 1, 1, 1), t.repeat(copies), told, known)
            none, *parts = v.chunk(copies)
            for weight, part in zip(weights, parts, strict=True):
                none = none + weight * (part - v[: len(x_t)])
            return none

        return denoiser_of(pressed)
