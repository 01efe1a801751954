r"""Baseline: a deep structural causal model whose image mechanism is a hierarchical VAE.

Factors follow from the same causal model as ours. The image is
:math:`x = \mu(z, pa) + \sigma(z, pa)\,\epsilon`, with z and ε for its exogenous noise: abduction
infers u from the factors, z by the encoder and ε from the pixels, and prediction draws with the
same u, z and ε under the factors of the other world. An image that nothing is done to comes back
as it was.

A decoder may draw from z alone and ignore its parents. Against it the last part of the training
makes counterfactuals of its batches, which a predictor q(pa | x), trained on observed images and
held still here, must read as the causal model says.

Reference:
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (Ribeiro et al., 2023),
    https://arxiv.org/abs/2306.15764

Of the paper's two priors this has the exogenous one, p(z), which sees no parents: z then is noise
to be kept as it is, where a prior p(z | pa) makes z a mediator that has to be abducted and
predicted in its turn. Deviations: three grids of latents and a few blocks instead of dozens;
factors enter by our embedding and canvas at every grid; z is abducted as the mean of q, where they
draw it; pixels have a Gaussian density with a floor under σ, where they discretise it, and channels
are independent given z; σ is learned for every pixel as theirs, but pixels count by ``balance``,
and ε is scaled by the other world's σ only where that is smaller; predictor and NSCM train beside
the VAE, where they train one after another; in the last part the ELBO goes on and the
counterfactual term has a fixed weight, and does not believe the predictor beyond ``trust``, where
they hold the ELBO by a Lagrange multiplier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from diffcf.causal import NSCM, CausalGraph, Do, Intervention
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.engine import Sampling
from diffcf.methods.interface import Counterfactual, check_image
from diffcf.methods.peers.causal_latents import Gaussian
from diffcf.methods.peers.diff_scm import FactorPredictor
from diffcf.methods.peers.hvae import ConditionalHVAE, Explained
from diffcf.networks import NetworkFactory


class HierarchicalVAE(CounterfactualModule):
    r"""Conditional HVAE, predictor of factors and NSCM.

    Args:
        graph: the causal graph, or its description.
        hvae: network class of the image mechanism, as :class:`ConditionalHVAE`.
        predictor: network class that reads clean images, as :class:`FactorPredictor`.
        nscm: network class of the structural causal model.
        beta: weight of the KL divergence against the likelihood.
        beta_warmup: share of the training, in [0, 1], in which that weight rises from 0.
        balance: β of β-NLL, in [0, 1]: pixels count by :math:`\sigma^{2\beta}`, which keeps what
            is certain already, the background, from drowning what is still to be learnt (Seitzer
            et al. 2022, https://arxiv.org/abs/2203.09168); 0 is the plain likelihood.
        finetune: share of the training, in [0, 1], at its end, with counterfactuals.
        counterfactual_weight: of −log q(pa_cf | x_cf) there.
        trust: standard deviation, in [0, 1] units, below which the predictor is not believed there.
        predictor_share: part of each batch that the predictor is trained on, in (0, 1].
        kwargs: optimisation, see :class:`CounterfactualModule`.

    Raises:
        ValueError: for a share or balance out of range.
    """

    reads = True
    hvae: Any
    predictor: Any
    nscm: Any

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        hvae: NetworkFactory = ConditionalHVAE,
        predictor: NetworkFactory = FactorPredictor,
        nscm: NetworkFactory = NSCM,
        beta: float = 1.0,
        beta_warmup: float = 0.05,
        balance: float = 0.5,
        finetune: float = 0.3,
        counterfactual_weight: float = 0.1,
        trust: float = 0.03,
        predictor_share: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(graph, {"hvae": hvae, "predictor": predictor, "nscm": nscm}, **kwargs)
        shares = {
            "beta_warmup": beta_warmup,
            "balance": balance,
            "finetune": finetune,
            "predictor_share": predictor_share,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {share}.")
        self.weights.setdefault("counterfactual", counterfactual_weight)
        self.beta, self.beta_warmup, self.balance = beta, beta_warmup, balance
        self.finetune, self.predictor_share = finetune, predictor_share
        self.trust = trust

    # --- losses ---

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        """Loss terms; ``hvae`` is in nats per pixel and channel, ``nll`` and ``mse`` likewise.

        ``kl`` is in nats per image. These three are logged only.
        """
        count = max(2, round(self.predictor_share * len(image)))
        reading = self.predictor(image[:count])
        terms = {"predictor": self.predictor.loss(reading, factors[:count])}
        terms |= self.nscm.loss(factors)
        explained = self.hvae(image, factors)
        terms |= self._elbo(image, explained)
        if self.progress >= 1 - self.finetune:
            terms["counterfactual"] = self._counterfactual_loss(image, factors, explained)
        return terms

    def _elbo(self, image: Tensor, explained: Explained) -> dict[str, Tensor]:
        drawn = explained.drawn
        nll = 0.5 * drawn.standardised(image).square() + drawn.log_scale
        weight = drawn.scale.detach().pow(2 * self.balance)
        # Of mean 1, so that likelihood and divergence keep their balance.
        likelihood = (nll * weight / weight.mean()).mean()
        risen = min(1.0, self.progress / self.beta_warmup) if self.beta_warmup else 1.0
        kl = explained.kl.mean()
        return {
            "hvae": likelihood + self.beta * risen * kl / image[0].numel(),
            "nll": nll.detach().mean(),
            "kl": kl.detach(),
            "mse": (drawn.mean.detach() - image).square().mean(),
        }

    def _counterfactual_loss(self, image: Tensor, factors: Tensor, explained: Explained) -> Tensor:
        """−log q(pa_cf | x_cf) with one random factor of each image set to another image's."""
        with torch.no_grad():
            column = torch.randint(len(self.graph), (len(image), 1), device=image.device)
            mask = torch.zeros_like(factors, dtype=torch.bool).scatter_(1, column, True)
            values = factors[torch.randperm(len(factors), device=factors.device)]
            target = self.nscm.predict(factors, self.nscm.abduct(factors), values, mask)
        moved = transport(image, explained.drawn, self.hvae.draw(explained.latents, target))
        # The image answers to the predictor, not the predictor to the image.
        still = {name: p.detach() for name, p in self.predictor.named_parameters()}
        reading = functional_call(self.predictor, still, (moved,))
        # A predictor of observed images is sure to .01 of what it knows, and as sure of what it has
        # never seen: unrestrained, it asks for any picture that pleases it.
        return self.predictor.loss(reading, target, self.trust)

    # --- answers ---

    def read(self, image: Tensor) -> Tensor:
        return self.predictor(image).mean

    def method(self, sampling: Sampling = Sampling()) -> HVAECounterfactuals:  # noqa: B008
        """Answers; nothing is drawn by diffusion, so ``sampling`` has no say."""
        return HVAECounterfactuals(self.hvae, self.predictor, self.nscm)


def transport(image: Tensor, factual: Gaussian, counterfactual: Gaussian) -> Tensor:
    r"""The image ``[B, C, H, W]`` in another world, by its own pixel noise; within [-1, 1].

    :math:`\mu' + \min(\sigma', \sigma)\,\epsilon` with :math:`\epsilon = (x - \mu)/\sigma`, written
    as a change of x, so that the same distribution gives the same image bit for bit. The noise
    shrinks where the other world is surer, which takes the factual object's ghost away; it never
    grows, since what the decoder got wrong at one edge is no noise of another.
    """
    noise = factual.standardised(image)
    shift = counterfactual.mean - factual.mean
    scale = torch.minimum(counterfactual.scale, factual.scale)
    return (image + shift + (scale - factual.scale) * noise).clamp(-1, 1)


@dataclass(frozen=True)
class HVAEWorld:
    """What stays the same across worlds.

    Attributes:
        method: which answers.
        image: ``[B, C, H, W]``, whose pixel noise is kept.
        factors: ``[B, K]``, the factual factors.
        exogenous: u ``[B, E]``.
        explained: z of ``image``, and its distribution given them.
    """

    method: HVAECounterfactuals
    image: Tensor
    factors: Tensor
    exogenous: Tensor
    explained: Explained

    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, without an image."""
        return self.method.target(self, self._intervention(do))

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do`` (a mapping of names to [0, 1] values, or tensors)."""
        return self.method.predict(self, self._intervention(do))

    def _intervention(self, do: Do | Intervention) -> Intervention:
        graph, image = self.method.nscm.graph, self.image
        return Intervention.from_do(do, graph, len(image), image.device)

    def reabduct(self, answer: Counterfactual) -> HVAEWorld:
        """The same world, with its causal noise, but z and ε inferred from ``answer``'s image."""
        explained = self.method.explain(answer.image, answer.factors)
        return replace(self, image=answer.image, explained=explained)


class HVAECounterfactuals:
    """Answers interventions with a trained HVAE, predictor and NSCM."""

    def __init__(self, hvae: Any, predictor: Any, nscm: Any) -> None:
        self.hvae, self.predictor, self.nscm = hvae, predictor, nscm

    @torch.no_grad()
    def abduct(self, image: Tensor, factors: Tensor | None = None) -> HVAEWorld:
        """See :meth:`CounterfactualMethod.abduct`; ValueError for broken images."""
        check_image(image)
        if factors is None:
            factors = self.nscm.refine(*self.predictor(image))
        explained = self.explain(image, factors)
        return HVAEWorld(self, image, factors, self.nscm.abduct(factors), explained)

    @torch.no_grad()
    def explain(self, image: Tensor, factors: Tensor) -> Explained:
        """z of images ``[B, C, H, W]``, at the mean of q, and their distribution given it."""
        return self.hvae(image, factors, sample=False)

    @torch.no_grad()
    def target(self, world: HVAEWorld, do: Intervention) -> Tensor:
        """The counterfactual's factors ``[B, K]``."""
        return self.nscm.predict(world.factors, world.exogenous, do.values, do.mask)

    @torch.no_grad()
    def predict(self, world: HVAEWorld, do: Intervention) -> Counterfactual:
        """Act and predict."""
        target = self.target(world, do)
        drawn = self.hvae.draw(world.explained.latents, target)
        return Counterfactual(transport(world.image, world.explained.drawn, drawn), target, do)
