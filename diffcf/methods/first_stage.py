"""Training of a first stage on images alone, for methods that work in its latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffcf.causal import Marks
from diffcf.io import SettingsError
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.interface import Method
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.methods.schedule import check_amount
from diffcf.networks import NetworkFactory
from diffcf.networks.first_stage import ConvAutoencoder, FirstStage, reconstruction_losses


class FirstStageTraining(CounterfactualModule):
    """An autoencoder learns to reconstruct images; ``val/psnr`` says how well, in dB.

    Its checkpoint is the ``weights`` of :class:`diffcf.networks.first_stage.ConvAutoencoder`.

    Args:
        graph, kwargs: see :class:`CounterfactualModule`; the factors are not looked at.
        first_stage: network class, a :class:`diffcf.networks.first_stage.FirstStage`.
        noise: standard deviation of what is added to latents before they are decoded, so that
            latents that lie near each other are decoded alike.
    """

    first_stage: FirstStage

    def __init__(
        self,
        graph: GraphOrSpec,
        first_stage: NetworkFactory = ConvAutoencoder,
        noise: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.noise = check_amount("noise", noise)
        super().__init__(graph, {"first_stage": first_stage}, settings={"noise": noise}, **kwargs)

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        """``pixel`` and ``gradient`` (:func:`reconstruction_losses`), and ``psnr``, logged only."""
        latent = self.first_stage.encode(image)
        if self.training:
            latent = latent + self.noise * torch.randn_like(latent)
        decoded = self.first_stage.decode(latent)
        terms = reconstruction_losses(image, decoded)
        with torch.no_grad():
            error = ((image - decoded.clamp(-1, 1)) / 2).square().flatten(1).mean(dim=1)
            return terms | {"psnr": -10 * error.clamp_min(1e-10).log10().mean()}

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        raise SettingsError(
            "A first stage answers no interventions: name its checkpoint as the weights of "
            "model.first_stage, in an experiment of DiffusionCounterfactuals."
        )
