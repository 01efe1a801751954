r"""The counterfactual engine: abduct, act, predict.

>>> engine = CounterfactualEngine(generator, projector, nscm)           # doctest: +SKIP
>>> abducted = engine.abduct(images)                                    # doctest: +SKIP
>>> abducted.predict({"light": 0.8}).image                              # doctest: +SKIP

1. *Abduct*: read the factors, unless they are given, and have the causal model correct them; infer
   its exogenous noise u = s⁻¹(z), and the noisy image x_T from which the generator would draw this
   very image.
2. *Act and predict*: z_cf = s(u; do), the factors had the intervention been made.
3. Draw from x_T again, with the generator conditioned on z_cf, guidance toward it, or both.

One abduction serves any number of interventions.

References:
    Causality, section 7.1 (Pearl, 2009); Deep structural causal models (Pawlowski et al., 2020),
    https://arxiv.org/abs/2006.06485; diffusion counterfactuals, arXiv 2407.20553.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal import CONTAMINATION, Do, Intervention
from diffcf.diffusion import (
    ClassifierFree,
    Denoiser,
    Guidance,
    Inversion,
    NoGuidance,
    Prediction,
    denoiser_of,
    invert,
    sample,
    time_grid,
)
from diffcf.io import SettingsError
from diffcf.methods.interface import NO_READER, Counterfactual, check_image


@dataclass(frozen=True)
class Sampling:
    """How a counterfactual image is drawn; nothing of it belongs to the trained model.

    Attributes:
        guidance: the rule for λ_t; None for none.
        steps: evaluations of the generator, for inversion and for sampling each.
        t_max: depth of the inversion, in (0, 1]; below 1 less of the image is drawn anew.
        conditional: whether the generator is given the factors; without them it is the paper's
            unconditional generator and guidance alone has to move the image.
        free: guidance by the generator's own conditioning; None for plain conditioning. Inversion
            always goes by plain conditioning: it has to find the noise of this very image.
        mechanisms: whether effects follow their causes; without them only what is set changes, as
            in image editing without a causal model (for ablation).
        anchored: whether what inversion finds amiss of the factual's path is put right on the
            counterfactual's too (:mod:`diffcf.diffusion.sampling`).
        order: of the solver, 1 (DDIM) or 2.
        spacing: of the times, see :func:`diffcf.diffusion.sampling.time_grid`.
        contamination: probability that a factor does not follow its mechanism, in [0, 1]; where factors are
            read off an image, it says how far the causal model may correct the reading
            (:mod:`diffcf.causal.refinement`). 1 takes what is read.

    Raises:
        SettingsError: for settings out of range, or that exclude each other.
    """

    guidance: Guidance | None = None
    steps: int = 30
    t_max: float = 1.0
    conditional: bool = True
    free: ClassifierFree | None = None
    mechanisms: bool = True
    anchored: bool = False
    order: int = 1
    spacing: float = 1.0
    contamination: float = CONTAMINATION

    def __post_init__(self) -> None:
        time_grid(self.steps, self.t_max, self.spacing)
        if self.order not in (1, 2):
            raise SettingsError(f"Sampling is of order 1 or 2, not {self.order}.")
        if not 0.0 <= self.contamination <= 1.0:
            raise SettingsError(
                f"The contamination of sampling is a probability, not {self.contamination}."
            )
        if self.anchored and self.free is not None:
            raise SettingsError(
                "An anchor holds for the denoiser that inverted the image, which free guidance "
                "leaves: set anchored to false."
            )


@dataclass(frozen=True)
class Abducted:
    """What stays the same across worlds.

    Attributes:
        engine: what abducted it.
        image: ``[B, C, H, W]``, the factual.
        factors: ``[B, K]``, the factual's.
        exogenous: the causal noise, ``[B, E]``.
        path: from the factual to x_T.
        factual_bias: by time, what the projector's reading of the factual's x_t was off, ``[B, E]``.
    """

    engine: CounterfactualEngine
    image: Tensor
    factors: Tensor
    exogenous: Tensor
    path: Inversion
    factual_bias: Mapping[float, Tensor]

    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, without an image."""
        return self.engine.target(self, self.engine.intervention(do, self.image))

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do`` (a mapping of names to [0, 1] values, or tensors)."""
        return self.engine.predict(self, self.engine.intervention(do, self.image))

    def reabduct(self, answer: Counterfactual) -> Abducted:
        """The same world, with its causal noise, but x_T abducted from ``answer``'s image."""
        found = self.engine.invert(answer.image, answer.factors)
        return Abducted(self.engine, answer.image, self.factors, self.exogenous, *found)

    def select(self, rows: Tensor) -> Abducted:
        """The worlds ``rows`` (long ``[N]``) of the batch, each as often as it is named.

        One abduction so serves many what-ifs at once:
        ``abducted.select(torch.zeros(16, dtype=torch.long)).predict({"light": values})``.
        """
        factual_bias = {time: off[rows] for time, off in self.factual_bias.items()}
        parts = (self.image[rows], self.factors[rows], self.exogenous[rows])
        return Abducted(self.engine, *parts, self.path.select(rows), factual_bias)


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
            contamination = self.sampling.contamination
            factors = self.nscm.refine(posterior.mean, posterior.variance, contamination)
        exogenous = self.nscm.abduct(factors)
        return Abducted(self, image, factors, exogenous, *self.invert(image, factors))

    @torch.no_grad()
    def invert(self, image: Tensor, factors: Tensor) -> tuple[Inversion, dict[float, Tensor]]:
        """The path from images to the noise x_T from which the generator, told ``factors``, draws
        them, and what the projector misreads on it, by time."""
        denoiser, sampling = self._denoiser(factors), self.sampling
        code, factual_bias = self.nscm.graph.encode(factors), {}

        def observed(x_t: Tensor, time: float) -> Prediction:
            if sampling.anchored and self.projector is not None and self.guidance.covers(time):
                reading = self.projector(x_t, x_t.new_full((len(x_t),), time))
                factual_bias[time] = reading.mean - code
            return denoiser(x_t, time)

        times = time_grid(sampling.steps, sampling.t_max, sampling.spacing)
        return invert(observed, image, times, sampling.order, sampling.anchored), factual_bias

    @torch.no_grad()
    def predict(self, abducted: Abducted, intervention: Intervention) -> Counterfactual:
        """Act and predict, for an :class:`Abducted` batch."""
        target, guide = self.target(abducted, intervention), None
        if self.projector is not None:
            code = self.nscm.graph.encode(target)
            guide = self.guidance.bind(self.projector, code, abducted.factual_bias)
        denoiser = self._denoiser(target, intervention.mask)
        image = sample(denoiser, abducted.path, self.sampling.order, guide)
        trace = guide.trace if guide is not None else []
        return Counterfactual(image.clamp(-1, 1), target, intervention, trace)

    @torch.no_grad()
    def target(self, abducted: Abducted, intervention: Intervention) -> Tensor:
        """The factors z_cf ``[B, K]`` that the counterfactual should show."""
        values, mask = intervention.values, intervention.mask
        if not self.sampling.mechanisms:
            return torch.where(mask, values, abducted.factors)
        return self.nscm.predict(abducted.factors, abducted.exogenous, values, mask)

    def intervention(self, do: Do | Intervention, image: Tensor) -> Intervention:
        """``do`` as tensors for this batch of images."""
        return Intervention.from_do(do, self.nscm.graph, len(image), image.device)

    def _denoiser(self, factors: Tensor, mask: Tensor | None = None) -> Denoiser:
        """The denoiser told ``factors``; pressed, if free guidance says so, where a ``mask`` ``[B,
        K]`` of set factors is given."""
        free = self.sampling.free
        if mask is not None and free is not None and self.sampling.conditional:
            reached = mask.to(factors) @ self.nscm.graph.reach.to(factors) > 0
            return free.wrap(self.generator, factors, reached)
        condition = factors if self.sampling.conditional else None
        return denoiser_of(lambda x_t, t: self.generator(x_t, t, condition))
