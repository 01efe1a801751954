"""Baseline: conditional diffusion with classifier-free guidance, plain or decoupled.

A generator that is told the factors, and is sometimes not told them, draws the counterfactual from
the inverted noise of the factual; :class:`diffcf.diffusion.guidance.classifier_free.ClassifierFree` presses it toward
its condition, all factors alike or apart by what the intervention reaches. Factors follow from the
same causal model as ours.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    Decoupled Classifier-Free Guidance for Counterfactual Diffusion Models (Xia et al., 2025),
    https://arxiv.org/abs/2506.14399

Deviations: mechanisms are our NSCM, where Xia et al. use flows of their own; factors enter by our
embedding, each with a flag that says whether it is told, where they split one embedding by groups;
all factors are left out one by one, not in the two groups of one intervention, so that one
generator serves interventions on any factor; v-prediction and continuous cosine schedule, as ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.causal import NSCM, CausalGraph
from diffcf.diffusion import drop_factors, stratified_times, velocity_loss
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.engine import CounterfactualEngine, Sampling
from diffcf.networks import NetworkFactory, UNet


class ConditionalDiffusion(CounterfactualModule):
    """Conditional generator and NSCM; how it is guided is up to :attr:`Sampling.free`.

    It reads no factors off images: they have to be observed.

    Args:
        graph: the causal graph, or its description.
        generator: network class for v: ``(x_t, t, factors, known) -> v``.
        nscm: network class of the structural causal model.
        factor_dropout: probability that the generator is not told a factor.
        all_dropout: probability that it is told none.
        kwargs: optimisation, see :class:`CounterfactualModule`.
    """

    generator: Any
    nscm: Any

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        generator: NetworkFactory = UNet,
        nscm: NetworkFactory = NSCM,
        factor_dropout: float = 0.0,
        all_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(graph, {"generator": generator, "nscm": nscm}, **kwargs)
        self.factor_dropout, self.all_dropout = factor_dropout, all_dropout

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        known = drop_factors(factors, self.factor_dropout, self.all_dropout)
        noise, t = torch.randn_like(image), stratified_times(image)
        generator = velocity_loss(self.generator, image, noise, t, factors, known)
        return {"generator": generator} | self.nscm.loss(factors)

    def method(self, sampling: Sampling = Sampling()) -> CounterfactualEngine:  # noqa: B008
        return CounterfactualEngine(self.generator, None, self.nscm, sampling)
