"""What trains CausalVAE and CausalDiffAE alike: networks over latents, and the two divergences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffcf.baselines.causal_latents import LabelPrior, with_dimensions
from diffcf.baselines.gaussian import Gaussian
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.graph import CausalGraph
from diffcf.networks import NetworkFactory

__all__ = ["LatentModule"]


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
