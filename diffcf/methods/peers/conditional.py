"""Baseline: conditional diffusion with classifier-free guidance, plain or decoupled.

The generator draws the counterfactual from the inverted noise of the factual, guided
(:class:`diffcf.diffusion.guidance.classifier_free.ClassifierFree`) by all factors alike, or apart
by what the intervention reaches. Factors follow from the same causal model as ours.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    Decoupled Classifier-Free Guidance for Counterfactual Diffusion Models (Xia et al., 2025),
    https://arxiv.org/abs/2506.14399

Deviations: mechanisms are our NSCM, where Xia et al. use flows of their own; factors enter by our
embedding, each with a flag for whether it is given, where they split one embedding by groups;
factors are dropped one by one, not in the two groups of one intervention, so that one generator
serves interventions on any factor; v-prediction and continuous cosine schedule, as ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.causal import NSCM, Marks, StructuralModel, filled, mechanism_terms
from diffcf.diffusion import Generator, random_condition_mask, stratified_times, velocity_loss
from diffcf.methods.encoded_module import EncodedModule
from diffcf.methods.engine import CounterfactualEngine
from diffcf.methods.interface import Method
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.networks import NetworkFactory, UNet


class ConditionalDiffusion(EncodedModule):
    """Conditional generator and NSCM; how it is guided is up to :attr:`Sampling.free`.

    It reads no factors off images: they have to be observed.

    Args:
        graph, kwargs: see :class:`EncodedModule`.
        generator: network class for v, a :class:`diffcf.diffusion.Generator`.
        nscm: network class of the structural causal model.
        factor_dropout, all_dropout: see :class:`diffcf.methods.DiffusionCounterfactuals`.
    """

    generator: Generator
    nscm: StructuralModel

    def __init__(
        self,
        graph: GraphOrSpec,
        generator: NetworkFactory = UNet,
        nscm: NetworkFactory = NSCM,
        factor_dropout: float = 0.0,
        all_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(graph, {"generator": generator, "nscm": nscm}, **kwargs)
        self.factor_dropout, self.all_dropout = factor_dropout, all_dropout

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        condition_mask = random_condition_mask(factors, self.factor_dropout, self.all_dropout)
        if marks is not None:
            factors, known = filled(factors)
            condition_mask = condition_mask & known
        noise, t = torch.randn_like(image), stratified_times(image)
        generator = velocity_loss(self.generator, image, noise, t, factors, condition_mask)
        return {"generator": generator} | mechanism_terms(self.nscm, factors, marks)

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        networks = self.generator, None, self.nscm
        return self.in_images(CounterfactualEngine(*networks, sampling, self.bound))
