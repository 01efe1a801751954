"""Baseline: Diff-SCM, an unconditional diffusion model moved by an anti-causal predictor.

Abduction is DDIM inversion by the unconditional generator; an intervention is made by the gradient
of a predictor of the factors, trained on noisy images, at a constant scale (``sampling.guidance``,
a :class:`diffcf.diffusion.guidance.gradient_rules.ConstantGuidance`).

Reference:
    Diffusion Causal Models for Counterfactual Estimation (Sanchez & Tsaftaris, 2022),
    https://arxiv.org/abs/2202.10166

Deviations: they have one cause, a class, and an image; here the targets of all factors of the
graph, descendants by our NSCM, guide at once, and continuous factors are predicted as Gaussians
with a learned variance. The generator is our U-Net without factors, v-prediction, continuous cosine
schedule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import (
    NSCM,
    CausalGraph,
    CodeDistribution,
    FactorPosterior,
    Marks,
    StructuralModel,
    filled,
    mechanism_terms,
)
from diffcf.diffusion import Generator, add_noise, stratified_times, velocity_loss
from diffcf.methods.checkpoint import Spec
from diffcf.methods.encoded_module import EncodedModule
from diffcf.methods.engine import CounterfactualEngine
from diffcf.methods.interface import Method
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.networks import ImageEncoder, NetworkFactory, UNet


class FactorPredictor(nn.Module):
    """p(factors | image): Gaussian for continuous factors, by its logit for a discrete one.

    Args:
        graph: gives the factors and their kinds.
        scale_floor: least standard deviation of a continuous factor.
        encoder: arguments of :class:`ImageEncoder` other than ``outputs``.
    """

    def __init__(
        self, graph: CausalGraph, scale_floor: float = 0.01, encoder: Spec | None = None
    ) -> None:
        super().__init__()
        self.graph, self.code = graph, CodeDistribution(graph, scale_floor)
        self.encoder = ImageEncoder(2 * sum(graph.widths), **(encoder or {}))

    def forward(self, image: Tensor, t: Tensor | None = None) -> FactorPosterior:
        """Read images ``[B, C, H, W]``, noisy ones at times ``[B]``; None for clean ones."""
        return FactorPosterior(*self.code(*self.encoder(image, t).chunk(2, dim=1)))

    def loss(
        self,
        reading: FactorPosterior,
        factors: Tensor,
        trust: float = 0.0,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Mean negative log-likelihood of factors ``[B, K]``, per entry of their code; scalar.

        The reading's standard deviation counts as ``trust``, in [0, 1] units, where it is less.
        Factors that are not ``counted`` ``[B, K]`` (bool) count as 0; None counts all.
        """
        code = self.graph.encode(factors)
        variance = reading.variance.clamp_min(trust**2)
        gauss = 0.5 * ((code - reading.mean).square() / variance + variance.log())
        p = reading.mean.clamp(1e-6, 1 - 1e-6)
        entropy = F.binary_cross_entropy(
            torch.where(self.code.discrete, p, 0.5), code.clamp(0, 1), reduction="none"
        )
        nll = torch.where(self.code.discrete, entropy, gauss)
        if counted is not None:
            nll = torch.where(self.graph.per_column(counted), nll, 0.0)
        return nll.mean()


class DiffSCM(EncodedModule):
    """Unconditional generator, predictor of noisy images and NSCM.

    Args:
        graph, kwargs: see :class:`EncodedModule`.
        generator: network class for v, used unconditionally.
        predictor: network class that reads noisy images, as :class:`FactorPredictor`.
        nscm: network class of the structural causal model.
    """

    reads = True
    generator: Generator
    predictor: FactorPredictor
    nscm: StructuralModel

    def __init__(
        self,
        graph: GraphOrSpec,
        generator: NetworkFactory = UNet,
        predictor: NetworkFactory = FactorPredictor,
        nscm: NetworkFactory = NSCM,
        **kwargs: Any,
    ) -> None:
        networks = {"generator": generator, "predictor": predictor, "nscm": nscm}
        super().__init__(graph, networks, **kwargs)

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        known = None
        if marks is not None:
            factors, known = filled(factors)
        noise, t = torch.randn_like(image), stratified_times(image)
        # Half of the images clean: that is where the factual is read.
        read_at = stratified_times(image) * (torch.rand_like(t) < 0.5)
        reading = self.predictor(add_noise(image, torch.randn_like(image), read_at), read_at)
        return {
            "generator": velocity_loss(self.generator, image, noise, t),
            "predictor": self.predictor.loss(reading, factors, counted=known),
            **mechanism_terms(self.nscm, factors, marks),
        }

    def read(self, image: Tensor) -> Tensor:
        reading: FactorPosterior = self.predictor(self.encoded(image))
        return reading.mean

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        unconditional = replace(sampling, conditional=False, free=None, feedback=None)
        networks = self.generator, self.predictor, self.nscm
        return self.in_images(CounterfactualEngine(*networks, unconditional, self.bound))
