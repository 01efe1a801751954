"""How methods with causal latents answer: encode, intervene upon the latents, decode.

The latents, their prior and their mechanisms are those of :mod:`diffcf.methods.peers.causal_latents`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do, Intervention
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.interface import Counterfactual, check_image
from diffcf.methods.peers.causal_latents import (
    Gaussian,
    LabelPrior,
    LatentMechanisms,
    with_dimensions,
)
from diffcf.networks import NetworkFactory


@dataclass(frozen=True)
class LatentWorld:
    """What such a method inferred from images.

    Attributes:
        method: which answers.
        image: ``[B, C, H, W]``, the images last seen.
        factors: ``[B, K]``, the factual factors.
        latents: z ``[B, E, D]`` of the images last seen.
        noise: n ``[B, E, D]``, the causal noise of the images first seen.
        picture: what the images show beyond the latents, ``[B, C, H, W]``.
    """

    method: LatentMethod
    image: Tensor
    factors: Tensor
    latents: Tensor
    noise: Tensor
    picture: Tensor

    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, without an image."""
        return self.method.target(self, self._intervention(do))[0]

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do`` (a mapping of names to [0, 1] values, or tensors)."""
        return self.method.predict(self, self._intervention(do))

    def _intervention(self, do: Do | Intervention) -> Intervention:
        graph, image = self.method.prior.graph, self.image
        return Intervention.from_do(do, graph, len(image), image.device)

    @torch.no_grad()
    def reabduct(self, answer: Counterfactual) -> LatentWorld:
        """The same causal noise; latents and picture are inferred from ``answer``'s image."""
        latents = self.method.encode(answer.image)
        picture = self.method.picture(answer.image, latents)
        return LatentWorld(self.method, answer.image, self.factors, latents, self.noise, picture)


class LatentMethod(ABC):
    """Encode, intervene upon latents, decode.

    Factors of an answer: the value where a factor is set; for what it causes, what the latents
    then say; the factual factor elsewhere.
    """

    def __init__(self, prior: LabelPrior, mechanisms: LatentMechanisms) -> None:
        self.prior, self.mechanisms = prior, mechanisms

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The latents z ``[B, E, D]`` of images, without chance."""

    @abstractmethod
    def picture(self, image: Tensor, latents: Tensor) -> Tensor:
        """What images show beyond their latents."""

    @abstractmethod
    def draw(self, latents: Tensor, picture: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` of latents and a picture."""

    @torch.no_grad()
    def abduct(self, image: Tensor, factors: Tensor | None = None) -> LatentWorld:
        """Infer latents and their noise from images ``[B, C, H, W]`` in [-1, 1].

        ``factors`` ``[B, K]`` are kept where they are given; the latents are the encoder's in any
        case.

        Raises:
            ValueError: for an image of the wrong shape or with non-finite pixels.
        """
        check_image(image)
        latents = self.encode(image)
        noise = latents - self.mechanisms(latents)
        factors = self.prior.factors(latents) if factors is None else factors
        return LatentWorld(self, image, factors, latents, noise, self.picture(image, latents))

    @torch.no_grad()
    def target(self, world: LatentWorld, do: Intervention) -> tuple[Tensor, Tensor]:
        """The counterfactual's factors ``[B, K]`` and latents ``[B, E, D]``."""
        owner = self.prior.graph.code_owner.to(do.mask.device)
        fixed, location = do.mask[:, owner], self.prior.location(do.values)
        latents = self.mechanisms.predict(world.latents, world.noise, location, fixed)
        moved = torch.zeros_like(do.mask)
        moved[:, owner] = self.mechanisms.reached(fixed)
        said = torch.where(moved, self.prior.factors(latents), world.factors)
        return torch.where(do.mask, do.values, said), latents

    @torch.no_grad()
    def predict(self, world: LatentWorld, do: Intervention) -> Counterfactual:
        """Act and predict, for an abducted batch."""
        factors, latents = self.target(world, do)
        return Counterfactual(self.draw(latents, world.picture).clamp(-1, 1), factors, do)


class LatentModule(CounterfactualModule):
    """Networks over latents ``[B, E, D]`` that mean factors.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        networks: network classes by name, each of which takes ``dimensions``.
        dimensions: D, latent dimensions for each column of the factors' code.
        prior_scale: s, standard deviation of the label-aligned prior.
        exogenous_weight, alignment_weight: of the two divergences, each in nats per latent
            dimension.
        kwargs: optimisation, see :class:`CounterfactualModule`.
    """

    reads = True

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        networks: Mapping[str, NetworkFactory],
        dimensions: int = 4,
        prior_scale: float = 0.03,
        exogenous_weight: float = 0.01,
        alignment_weight: float = 0.01,
        **kwargs: Any,
    ) -> None:
        sized = {name: with_dimensions(factory, dimensions) for name, factory in networks.items()}
        super().__init__(graph, sized, {"dimensions": dimensions}, **kwargs)
        self.prior = LabelPrior(self.graph, dimensions)
        self.prior_scale = prior_scale
        self.exogenous_weight, self.alignment_weight = exogenous_weight, alignment_weight

    def divergences(
        self, exogenous: Gaussian, latents: Gaussian, factors: Tensor
    ) -> dict[str, Tensor]:
        """``exogenous``, from N(0, 1), and ``alignment``, from where ``factors`` ``[B, K]`` lie."""
        aligned = latents.divergence(self.prior.location(factors), self.prior_scale)
        return {
            "exogenous": self.exogenous_weight * exogenous.divergence(0.0, 1.0),
            "alignment": self.alignment_weight * aligned,
        }
