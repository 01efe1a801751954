r"""Baseline: a deep structural causal model whose image mechanism is a hierarchical VAE.

Factors follow from the same causal model as ours. The image is
:math:`x = \mu(z, pa) + \sigma(z, pa)\,\epsilon`, whose exogenous noise is z, by the encoder, and ε,
from the pixels. The null intervention returns the image exactly.

A decoder may draw from z alone and ignore its parents. Against it, counterfactuals of the batch are
drawn in the last part of the training, and a predictor q(pa | x), trained on observed images and
held fixed here, must read the causal model's factors off them.

Reference:
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (Ribeiro et al., 2023),
    https://arxiv.org/abs/2306.15764

Of the paper's two priors this has the exogenous one, p(z), which does not depend on the parents: z
is noise to be kept, where a prior p(z | pa) makes z a mediator to be abducted and predicted in its
turn. Deviations: three grids of latents and a few blocks instead of dozens; factors enter by our
embedding and spatial broadcast at every grid; z is abducted as the mean of q, not drawn; pixels
have a Gaussian density with a floor under σ instead of a discretised one, are independent across
channels given z, and count by ``balance``; ε is scaled by the counterfactual's σ only where that is
smaller; predictor and NSCM train beside the VAE, not one after another; in the last part the
counterfactual term has a fixed weight, and trusts the predictor no further than ``trust``, instead
of a Lagrange multiplier on the ELBO.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from diffcf.causal import (
    NSCM,
    FactorPosterior,
    Intervention,
    Marks,
    StructuralModel,
    filled,
    image_keys,
    mechanism_terms,
)
from diffcf.io import SettingsError
from diffcf.methods.encoded_module import EncodedModule
from diffcf.methods.interface import Counterfactual, Method, World, check_image
from diffcf.methods.peers.diff_scm import FactorPredictor
from diffcf.methods.peers.hvae import ConditionalHVAE, Explained
from diffcf.methods.peers.latent_networks import Gaussian
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.networks import NetworkFactory


class HierarchicalVAE(EncodedModule):
    r"""Conditional HVAE, predictor of factors and NSCM.

    Args:
        graph, kwargs: see :class:`EncodedModule`.
        hvae: network class of the image mechanism, as :class:`ConditionalHVAE`.
        predictor: network class that reads clean images, as :class:`FactorPredictor`.
        nscm: network class of the structural causal model.
        beta: weight of the KL divergence against the likelihood.
        beta_warmup: share of the training, in [0, 1], in which that weight rises from 0.
        balance: β of β-NLL, in [0, 1]: pixels count by :math:`\sigma^{2\beta}`, so that certain
            ones, of the background, do not outweigh what is still to be learnt (Seitzer et al.
            2022, https://arxiv.org/abs/2203.09168); 0 is the plain likelihood.
        finetune: share of the training, in [0, 1], at its end, with counterfactuals.
        counterfactual_weight: of −log q(pa_cf | x_cf) there.
        trust: least standard deviation, in [0, 1] units, of the predictor's reading there.
        predictor_share: part of each batch that the predictor is trained on, in (0, 1].

    Raises:
        ValueError: for a share or balance out of range.
    """

    reads = True
    late_terms = frozenset({"counterfactual"})
    hvae: ConditionalHVAE
    predictor: FactorPredictor
    nscm: StructuralModel

    def __init__(
        self,
        graph: GraphOrSpec,
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
        shares = {"beta_warmup": beta_warmup, "balance": balance, "finetune": finetune}
        for name, share in (shares | {"predictor_share": predictor_share}).items():
            if not 0 <= share <= 1:
                raise SettingsError(f"{name} must lie in [0, 1], not {share}.")
        self.weights.setdefault("counterfactual", counterfactual_weight)
        self.beta, self.beta_warmup, self.balance = beta, beta_warmup, balance
        self.finetune, self.predictor_share, self.trust = finetune, predictor_share, trust

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        """``hvae`` and ``nll`` are in nats per pixel and channel, ``kl`` in nats per image.

        The image mechanism is conditioned on the labels that are there; counterfactuals are drawn
        of images of which none is missing.
        """
        known = None
        if marks is not None:
            factors, known = filled(factors)
        count = max(2, round(self.predictor_share * len(image)))
        reading = self.predictor(image[:count])
        first = None if known is None else known[:count]
        terms = {"predictor": self.predictor.loss(reading, factors[:count], counted=first)}
        terms |= mechanism_terms(self.nscm, factors, marks)
        explained = self.hvae(image, factors, condition_mask=known)
        terms |= self._elbo(image, explained)
        if self.progress >= 1 - self.finetune:
            terms["counterfactual"] = self._counterfactual_loss(image, factors, explained, known)
        return terms

    def _elbo(self, image: Tensor, explained: Explained) -> dict[str, Tensor]:
        drawn = explained.drawn
        nll = 0.5 * drawn.standardised(image).square() + drawn.log_scale
        weight = drawn.scale.detach().pow(2 * self.balance)
        # Of mean 1, so that likelihood and divergence keep their balance.
        likelihood = (nll * weight / weight.mean()).mean()
        warm = min(1.0, self.progress / self.beta_warmup) if self.beta_warmup else 1.0
        kl = explained.kl.mean()
        return {
            "hvae": likelihood + self.beta * warm * kl / image[0].numel(),
            "nll": nll.detach().mean(),
            "kl": kl.detach(),
            "mse": (drawn.mean.detach() - image).square().mean(),
        }

    def _counterfactual_loss(
        self, image: Tensor, factors: Tensor, explained: Explained, known: Tensor | None = None
    ) -> Tensor:
        """−log q(pa_cf | x_cf) with one random factor of each image set to another image's.

        Images of which a label is not ``known`` ``[B, K]``, or the value to set, count as 0.
        """
        with torch.no_grad():
            column = torch.randint(len(self.graph), (len(image), 1), device=image.device)
            mask = torch.zeros_like(factors, dtype=torch.bool).scatter_(1, column, True)
            other = torch.randperm(len(factors), device=factors.device)
            values, counted = factors[other], None
            if known is not None:
                whole = known.all(dim=1, keepdim=True) & known[other].gather(1, column)
                counted = whole.expand_as(known)
            keys = torch.randint(2**62, (len(image),), device=image.device)
            predicted = self.nscm.predict(factors, self.nscm.abduct(factors, keys), values, mask)
            target, _ = self.graph.clip(predicted)
        drawn = self.hvae.draw(explained.latents, target)
        moved = self.within_bound(transport(image, explained.drawn, drawn))
        # The gradient reaches the image only, not the predictor.
        fixed = {name: p.detach() for name, p in self.predictor.named_parameters()}
        reading = functional_call(self.predictor, fixed, (moved,))
        # A predictor claims a standard deviation of .01 even of images unlike any it was trained
        # on; taken at its word, it rewards images that merely exploit it.
        return self.predictor.loss(reading, target, self.trust, counted)

    def read(self, image: Tensor) -> Tensor:
        reading: FactorPosterior = self.predictor(self.encoded(image))
        return reading.mean

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        """This module, which abducts; ``sampling`` has no effect, as nothing is diffused."""
        return self.in_images(self)

    @torch.no_grad()
    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> HVAEWorld:
        """As :meth:`diffcf.methods.interface.Method.abduct`, of what the networks see.

        Raises:
            ValueError: for broken images.
        """
        check_image(image)
        if factors is None:
            reading: FactorPosterior = self.predictor(image)
            factors = self.nscm.refine(reading.mean, reading.variance)
        factors, beyond = self.graph.clip(factors)
        exogenous = self.nscm.abduct(factors, image_keys(image) if keys is None else keys)
        explained = self.explain(image, factors)
        return HVAEWorld(self.graph, image, factors, exogenous, self, explained, clipped=beyond)

    @torch.no_grad()
    def explain(self, image: Tensor, factors: Tensor) -> Explained:
        """z of images ``[B, C, H, W]``, at the mean of q, and their distribution given it."""
        explained: Explained = self.hvae(image, factors, sample=False)
        return explained


@dataclass(frozen=True)
class HVAEWorld(World):
    """The exogenous noise of a batch: of the factors, and z and ε of the image.

    Attributes:
        exogenous: u ``[B, E]``.
        module: its networks.
        explained: z of ``image``, and its distribution given z, from which ε follows.
    """

    exogenous: Tensor
    module: HierarchicalVAE
    explained: Explained

    def target(self, do: Intervention) -> Tensor:
        return self.module.nscm.predict(self.factors, self.exogenous, do.values, do.mask)

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        drawn = self.module.hvae.draw(self.explained.latents, target)
        image = transport(self.image, self.explained.drawn, drawn)
        return Counterfactual(self.module.within_bound(image), target, do)

    def reabduct(self, answer: Counterfactual) -> HVAEWorld:
        explained = self.module.explain(answer.image, answer.factors)
        return replace(self, image=answer.image, explained=explained)


def transport(image: Tensor, factual: Gaussian, counterfactual: Gaussian) -> Tensor:
    r"""The counterfactual image ``[B, C, H, W]`` with the factual's pixel noise.

    :math:`\mu' + \min(\sigma', \sigma)\,\epsilon` with :math:`\epsilon = (x - \mu)/\sigma`, written
    as a change of x, so that the same distribution gives the same image bit for bit. The noise
    shrinks where the counterfactual is more certain, which removes leftovers of the factual object;
    it never grows, since the decoder's error at one edge is no noise of another.
    """
    noise = factual.standardised(image)
    shift = counterfactual.mean - factual.mean
    scale = torch.minimum(counterfactual.scale, factual.scale)
    return image + shift + (scale - factual.scale) * noise
