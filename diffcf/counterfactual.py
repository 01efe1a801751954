r"""The counterfactual engine: abduct, act, predict.

>>> engine = CounterfactualEngine(generator, projector, nscm)           # doctest: +SKIP
>>> abducted = engine.abduct(images)                                    # doctest: +SKIP
>>> abducted.predict({"light": 0.8}).image                              # doctest: +SKIP

1. *Abduct*: read the factors (unless they are given), infer the exogenous noise u = s⁻¹(z) of the
   causal model and the noisy image x_T from which the generator would draw this very image.
2. *Act and predict*: z_cf = s(u; do), the factors had the intervention been made.
3. Draw from x_T again, with the generator conditioned on z_cf, guidance toward it, or both.

One abduction serves any number of interventions.

References:
    Causality, section 7.1 (Pearl, 2009); Deep structural causal models (Pawlowski et al., 2020),
    https://arxiv.org/abs/2006.06485; diffusion counterfactuals, arXiv 2407.20553.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.classifier_free import ClassifierFree
from diffcf.diffusion import Denoiser, Prediction, prediction_from_velocity
from diffcf.guidance import Guidance, GuidedDenoiser, NoGuidance
from diffcf.intervention import Do, Intervention
from diffcf.method import NO_READER, Counterfactual, check_image
from diffcf.sampling import ddim_invert, ddim_sample, time_grid

__all__ = ["Abducted", "Counterfactual", "CounterfactualEngine", "Sampling"]


@dataclass(frozen=True)
class Sampling:
    """How a counterfactual image is drawn; nothing of it belongs to the trained model.

    Attributes:
        guidance: the rule for λ_t; None for none.
        steps: DDIM steps, of inversion and of sampling each.
        t_max: depth of the inversion, in (0, 1]; below 1 less of the image is drawn anew.
        conditional: whether the generator is given the factors; without them it is the paper's
            unconditional generator and guidance alone has to move the image.
        free: guidance by the generator's own conditioning; None for plain conditioning. Inversion
            always goes by plain conditioning: it has to find the noise of this very image.
        mechanisms: whether effects follow their causes; without them only what is set changes, as
            in image editing without a causal model (for ablation).
    """

    guidance: Guidance | None = None
    steps: int = 30
    t_max: float = 1.0
    conditional: bool = True
    free: ClassifierFree | None = None
    mechanisms: bool = True


@dataclass(frozen=True)
class Abducted:
    """What stays the same across worlds: the causal noise ``exogenous`` ``[B, E]`` and ``x_T``."""

    engine: CounterfactualEngine
    image: Tensor
    factors: Tensor
    exogenous: Tensor
    x_T: Tensor

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do`` (a mapping of names to [0, 1] values, or tensors)."""
        return self.engine.predict(self, self.engine.intervention(do, self.image))

    def seen_in(self, answer: Counterfactual) -> Abducted:
        """The same world, with its causal noise, but x_T abducted from ``answer``'s image."""
        x_T = self.engine.invert(answer.image, answer.factors)
        return Abducted(self.engine, answer.image, self.factors, self.exogenous, x_T)


class CounterfactualEngine:
    """Answers interventions with a trained generator, projector and NSCM.

    Args:
        generator: ``(x_t, t, factors) -> v``.
        projector: ``(x_t, t) -> posterior`` with ``mean`` and ``variance`` ``[B, E]`` of the code;
            None where factors are always given and nothing guides.
        nscm: with ``abduct``, ``predict`` and ``graph``.
        sampling: how images are drawn.
    """

    def __init__(
        self,
        generator: nn.Module,
        projector: nn.Module | None,
        nscm: Any,
        sampling: Sampling = Sampling(),
    ) -> None:
        self.generator, self.projector, self.nscm = generator, projector, nscm
        self.sampling = sampling
        self.guidance = sampling.guidance or NoGuidance()

    @torch.no_grad()
    def abduct(self, image: Tensor, factors: Tensor | None = None) -> Abducted:
        """Infer what stays the same in every world.

        Args:
            image: ``[B, C, H, W]`` in [-1, 1].
            factors: ``[B, K]`` in [0, 1] units where observed; None has the projector read them.

        Raises:
            ValueError: for an image of the wrong shape or with non-finite pixels, and where there
                is no projector to read factors.
        """
        check_image(image)
        if factors is None:
            if self.projector is None:
                raise ValueError(NO_READER)
            posterior = self.projector(image, image.new_zeros(len(image)))
            factors = self.nscm.graph.decode(posterior.mean)
        exogenous = self.nscm.abduct(factors)
        return Abducted(self, image, factors, exogenous, self.invert(image, factors))

    @torch.no_grad()
    def invert(self, image: Tensor, factors: Tensor) -> Tensor:
        """x_T ``[B, C, H, W]``, from which the generator told ``factors`` draws ``image``."""
        return ddim_invert(self._denoiser(factors), image, self._times(image))

    @torch.no_grad()
    def predict(self, abducted: Abducted, intervention: Intervention) -> Counterfactual:
        """Act and predict, for an :class:`Abducted` batch."""
        values, mask = intervention.values, intervention.mask
        target = torch.where(mask, values, abducted.factors)
        if self.sampling.mechanisms:
            target = self.nscm.predict(abducted.factors, abducted.exogenous, values, mask)
        denoiser = self._steered(target, intervention)
        image = ddim_sample(denoiser, abducted.x_T, self._times(abducted.x_T))
        trace = denoiser.trace if isinstance(denoiser, GuidedDenoiser) else []
        return Counterfactual(image.clamp(-1, 1), target, intervention, trace)

    def _steered(self, target: Tensor, intervention: Intervention) -> Denoiser:
        """The denoiser that leads to an image of the factors ``target`` ``[B, K]``."""
        graph, free = self.nscm.graph, self.sampling.free
        denoiser = self._denoiser(target)
        if free is not None and self.sampling.conditional:
            reach = graph.reach.to(target)
            denoiser = free.wrap(self.generator, target, intervention.mask.to(target) @ reach > 0)
        if self.projector is None:
            return denoiser
        return self.guidance.wrap(denoiser, self.projector, graph.encode(target))

    def intervention(self, do: Do | Intervention, image: Tensor) -> Intervention:
        """``do`` as tensors for this batch of images."""
        return Intervention.from_do(do, self.nscm.graph, len(image), image.device)

    def _denoiser(self, factors: Tensor) -> Denoiser:
        condition = factors if self.sampling.conditional else None

        def denoise(x_t: Tensor, t: Tensor) -> Prediction:
            return prediction_from_velocity(self.generator(x_t, t, condition), x_t, t)

        return denoise

    def _times(self, like: Tensor) -> Tensor:
        return time_grid(self.sampling.steps, self.sampling.t_max, like.device)
