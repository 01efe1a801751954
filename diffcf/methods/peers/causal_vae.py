r"""CausalVAE: a variational autoencoder whose latents are concepts with causes.

An encoder infers exogenous latents ε, a linear causal layer turns them into concepts,
:math:`z = (I - A^\top)^{-1}\,\epsilon`, a mask layer reconstructs every concept from its causes,
:math:`z_i = g_i(A_i \circ z) + n_i`, and a decoder draws the image of z. Labels u align the
concepts by a conditional prior p(z | u). Trained are the evidence lower bound with the divergences
of both q(ε | x) and q(z | x), and two supervised terms: :math:`l_u`, labels predicted from their
causes through A, and :math:`l_m`, concepts predicted from theirs through the mask layer. An
intervention sets a concept, the mask layer carries it on to its effects, and the decoder draws.

Reference:
    CausalVAE: Disentangled representation learning via neural structural causal models (Yang et
    al., CVPR 2021), https://arxiv.org/abs/2004.08697

Deviations:

- The graph is given, as to all methods here: A is masked to its edges, and needs no penalty on
  cycles.
- The encoder does not see the labels, as in the published code: they are unknown at test.
- Posterior variances are learned and the prior's is a setting; the published code fixes both.
- A counterfactual keeps the mask layer's own noise, :math:`n_i = z_i - g_i(A_i \circ z)`. With the
  causal layer's ε_i, as printed, the null intervention would change the image.
- :math:`l_m` trains the mask layer and A, but not the encoder, which would lower it by hiding an
  effect in its cause's D dimensions, where an intervention on the cause loses it.
- An intervention reaches all descendants, where the paper's mask layer reaches children.
- One decoder, of the levels of our U-Net, draws from all concepts together, with a Gaussian
  likelihood; the published one sums a perceptron for each concept, with a Bernoulli likelihood. The
  variance of a pixel is the batch's mean squared error, its most likely value (σ-VAE, Rybkin et
  al. 2021, https://arxiv.org/abs/2006.13202).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph, GroupedMLP, Marks, filled
from diffcf.methods.interface import Method
from diffcf.methods.peers.causal_latents import LatentMechanisms, LatentMethod, LatentModule
from diffcf.methods.peers.latent_networks import Gaussian, LatentDecoder, LatentEncoder
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.networks import NetworkFactory

LEAST_ERROR = 0.004  # least standard deviation of a pixel in [-1, 1]: half a grey level


class CausalLayers(LatentMechanisms):
    """The linear causal layer, and the mask layer, whose mechanisms share its matrix A.

    Args:
        graph, dimensions, hidden: see :class:`LatentMechanisms`.
        label_hidden: width of the hidden layer that predicts a label from its causes' labels.
    """

    def __init__(
        self,
        graph: CausalGraph,
        dimensions: int = 4,
        hidden: Sequence[int] = (64, 64),
        label_hidden: int = 32,
    ) -> None:
        super().__init__(graph, dimensions, hidden)
        count = len(self.edges)
        self.matrix = nn.Parameter(0.5 * self.edges)
        self.labels = GroupedMLP(count, [count, label_hidden, 1])

    def weights(self) -> Tensor:
        """A, with causes in columns, zero off the graph's edges."""
        return self.matrix * self.edges

    def linear(self, exogenous: Tensor) -> Tensor:
        """z = (I − A)⁻¹ ε, ``[B, E, D]`` to ``[B, E, D]``."""
        return torch.einsum("ef,bfd->bed", self._transfer(), exogenous)

    def concepts(self, exogenous: Gaussian) -> Gaussian:
        """The marginal posteriors of z."""
        spread = torch.einsum("ef,bfd->bed", self._transfer().square(), exogenous.variance)
        return Gaussian(self.linear(exogenous.mean), 0.5 * spread.log())

    def label_loss(self, code: Tensor, counted: Tensor | None = None) -> Tensor:
        """l_u: mean squared error of labels ``[B, E]`` predicted from their causes'; scalar.

        Those that are not ``counted`` ``[B, E]`` (bool) count as 0; None counts all.
        """
        masked = self.weights()[:, None] * (2 * code - 1)  # [E, B, E]
        predicted = self.labels(masked)[..., 0].T.sigmoid()
        return self.mean_of_caused((predicted - code).square()[..., None], counted)

    def _transfer(self) -> Tensor:
        """(I − A)⁻¹ ``[E, E]``: A is nilpotent, so that the series I + A + A² + … ends."""
        weights = self.weights()
        identity = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
        transfer = identity
        for _ in range(self.depth):
            transfer = identity + weights @ transfer
        return transfer


class CausalVAE(LatentModule):
    """Encoder, causal layers and decoder over one causal graph.

    The reconstruction is in nats per pixel and channel.

    Args:
        graph, kwargs: latents and optimisation, see :class:`LatentModule`.
        encoder: network class ``image -> Gaussian`` of exogenous latents.
        causal: network class of causal and mask layer.
        decoder: network class ``(latents, size) -> image``.
    """

    encoder: LatentEncoder
    causal: CausalLayers
    decoder: LatentDecoder

    def __init__(
        self,
        graph: GraphOrSpec,
        encoder: NetworkFactory = LatentEncoder,
        causal: NetworkFactory = CausalLayers,
        decoder: NetworkFactory = LatentDecoder,
        **kwargs: Any,
    ) -> None:
        networks = {"encoder": encoder, "causal": causal, "decoder": decoder}
        super().__init__(graph, networks, **kwargs)

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        counted = None
        if marks is not None:
            mechanisms = marks.mechanisms(self.graph.adjacency.to(factors.device))
            factors, counted = filled(factors)[0], self.graph.per_column(mechanisms)
        exogenous: Gaussian = self.encoder(image)
        concepts = self.causal.concepts(exogenous)
        drawn = self.decoder(self.causal.linear(exogenous.sample()), image.shape[-2:])
        error = (drawn.float() - image).square().mean()
        return {
            "reconstruction": 0.5 * (error + LEAST_ERROR**2).log(),
            **self.divergences(exogenous, concepts, factors, marks),
            "labels": self.causal.label_loss(self.graph.encode(factors), counted),
            "mask": self.causal.residual_loss(concepts.mean.detach(), self.unset(marks)),
            "psnr": -10 * (error.detach() / 4).log10(),
        }

    def encode(self, image: Tensor) -> Tensor:
        return self.causal.linear(self.encoder(image).mean)

    def draw(self, latents: Tensor, stochastic_code: Tensor, sampling: Sampling) -> Tensor:
        drawn: Tensor = self.decoder(latents, stochastic_code.shape[-2:])
        return drawn

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        """Answers with these networks; ``sampling`` has no effect, as nothing is diffused."""
        return self.in_images(LatentMethod(self, self.causal, sampling))
