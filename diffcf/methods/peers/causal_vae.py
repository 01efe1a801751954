r"""CausalVAE: a variational autoencoder whose latents are concepts with causes.

An encoder infers exogenous latents ε, a linear causal layer makes concepts of them,

.. math:: z = (I - A^\top)^{-1}\,\epsilon,

a mask layer reconstructs every concept from its causes, :math:`z_i = g_i(A_i \circ z) + n_i`, and a
decoder draws the image of z. Labels u align the concepts by a conditional prior p(z | u). Trained
are the evidence lower bound with the divergences of both q(ε | x) and q(z | x), and two supervised
terms: :math:`l_u`, labels predicted from their causes through A, and :math:`l_m`, concepts
predicted from theirs through the mask layer. An intervention sets a concept, the mask layer carries
it on to what it causes, and the decoder draws.

Reference:
    CausalVAE: Disentangled representation learning via neural structural causal models (Yang et
    al., CVPR 2021), https://arxiv.org/abs/2004.08697

Where this departs from the paper:

- The graph is given, as to all methods here: A is masked to its edges and only its entries are
  learned, without the penalty on cycles.
- The encoder does not see the labels, as in the published code: they are unknown at test.
- Posterior variances are learned and the prior's is a setting; the published code fixes both.
- What is kept in a counterfactual is the mask layer's own noise, :math:`n_i = z_i - g_i(A_i \circ
  z)`. With the causal layer's ε_i in its place, as printed, the mask layer would not give back the
  very z it is asked to reconstruct, and the null intervention would change the image.
- :math:`l_m` trains the mask layer and A, but not the encoder. Where a cause does not settle its
  effect (Flow's ball and water), an encoder lowers it by hiding the effect in the cause's D
  dimensions, and an intervention, which sets all of them, then loses it.
- An intervention passes on along every path of the graph, where the paper's mask layer passes it
  on to children.
- One decoder draws from all concepts together, of the levels our U-Net is built of, to a Gaussian
  likelihood; the published one sums a perceptron for each concept, to a Bernoulli likelihood. The
  variance of a pixel is the batch's mean squared error, its most likely value (σ-VAE, Rybkin et
  al. 2021, https://arxiv.org/abs/2006.13202).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph, GroupedMLP
from diffcf.methods.engine import Sampling
from diffcf.methods.peers.causal_latents import Gaussian, LatentMechanisms
from diffcf.methods.peers.latent_method import LatentMethod, LatentModule
from diffcf.methods.peers.latent_networks import LatentDecoder, LatentEncoder
from diffcf.networks import NetworkFactory

# Least standard deviation of a pixel, in units of [-1, 1]: half a grey level.
LEAST_ERROR = 0.004


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

    def label_loss(self, code: Tensor) -> Tensor:
        """l_u: mean squared error of labels ``[B, E]`` predicted from their causes'; scalar."""
        masked = self.weights()[:, None] * (2 * code - 1)  # [E, B, E]
        predicted = self.labels(masked)[..., 0].T.sigmoid()
        return self.mean_of_caused((predicted - code).square()[..., None])

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
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        encoder: network class ``image -> Gaussian`` of exogenous latents.
        causal: network class of causal and mask layer.
        decoder: network class ``(latents, size) -> image``.
        kwargs: latents and optimisation, see :class:`LatentModule`.
    """

    encoder: Any
    causal: Any
    decoder: Any

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        encoder: NetworkFactory = LatentEncoder,
        causal: NetworkFactory = CausalLayers,
        decoder: NetworkFactory = LatentDecoder,
        **kwargs: Any,
    ) -> None:
        networks = {"encoder": encoder, "causal": causal, "decoder": decoder}
        super().__init__(graph, networks, **kwargs)

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        """``reconstruction``, ``exogenous`` and ``alignment`` (the bound), ``labels``, ``mask``."""
        exogenous: Gaussian = self.encoder(image)
        concepts: Gaussian = self.causal.concepts(exogenous)
        drawn = self.decoder(self.causal.linear(exogenous.sample()), image.shape[-2:])
        error = (drawn.float() - image).square().mean()
        return {
            "reconstruction": 0.5 * (error + LEAST_ERROR**2).log(),
            **self.divergences(exogenous, concepts, factors),
            "labels": self.causal.label_loss(self.graph.encode(factors)),
            "mask": self.causal.residual_loss(concepts.mean.detach()),
            "psnr": -10 * (error.detach() / 4).log10(),
        }

    def read(self, image: Tensor) -> Tensor:
        """The code ``[B, E]`` that the concepts of images ``[B, C, H, W]`` stand for."""
        return self.prior.code(self.causal.linear(self.encoder(image).mean))

    def method(self, sampling: Sampling = Sampling()) -> LatentMethod:  # noqa: B008
        """Answers with these networks; there is nothing to sample by diffusion."""
        return _Method(self)


class _Method(LatentMethod):
    def __init__(self, model: CausalVAE) -> None:
        super().__init__(model.prior, model.causal)
        self.model = model

    def encode(self, image: Tensor) -> Tensor:
        return self.model.causal.linear(self.model.encoder(image).mean)

    def picture(self, image: Tensor, latents: Tensor) -> Tensor:
        return image  # the latents are all that is kept; only its size is read

    def draw(self, latents: Tensor, picture: Tensor) -> Tensor:
        return self.model.decoder(latents, picture.shape[-2:])
