"""Baseline: Diff-SCM, an unconditional diffusion model moved by an anti-causal predictor.

Abduction is DDIM inversion by the unconditional generator; an intervention is made by the gradient
of a predictor of the factors, trained on noisy images, at a fixed scale (``sampling.guidance``, a
:class:`diffcf.guidance.ConstantGuidance`).

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
from torch import Tensor

from diffcf.baselines.predictor import FactorPredictor
from diffcf.counterfactual import CounterfactualEngine, Sampling
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.diffusion import add_noise, stratified_times
from diffcf.generator import UNet
from diffcf.graph import CausalGraph
from diffcf.networks import NetworkFactory
from diffcf.nscm import NSCM
from diffcf.objective import velocity_loss

__all__ = ["DiffSCM"]


class DiffSCM(CounterfactualModule):
    """Unconditional generator, predictor of noisy images and NSCM.

    Args:
        graph: the causal graph, or its description.
        generator: network class for v; it is never told a factor.
        predictor: network class that reads noisy images, as :class:`FactorPredictor`.
        nscm: network class of the structural causal model.
        kwargs: optimisation, see :class:`CounterfactualModule`.
    """

    reads = True
    generator: Any
    predictor: Any
    nscm: Any

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        generator: NetworkFactory = UNet,
        predictor: NetworkFactory = FactorPredictor,
        nscm: NetworkFactory = NSCM,
        **kwargs: Any,
    ) -> None:
        networks = {"generator": generator, "predictor": predictor, "nscm": nscm}
        super().__init__(graph, networks, **kwargs)

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        noise, t = torch.randn_like(image), stratified_times(image)
        # Half of the images clean: that is where the factual is read.
        read_at = stratified_times(image) * (torch.rand_like(t) < 0.5)
        reading = self.predictor(add_noise(image, torch.randn_like(image), read_at), read_at)
        return {
            "generator": velocity_loss(self.generator, image, noise, t),
            "predictor": self.predictor.loss(reading, factors),
            **self.nscm.loss(factors),
        }

    def read(self, image: Tensor) -> Tensor:
        return self.predictor(image).mean

    def method(self, sampling: Sampling = Sampling()) -> CounterfactualEngine:  # noqa: B008
        unconditional = replace(sampling, conditional=False, free=None)
        return CounterfactualEngine(self.generator, self.predictor, self.nscm, unconditional)
