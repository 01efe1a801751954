r"""The counterfactual engine: abduct, act, predict.

1. *Abduct*: read the factors z off the image, unless they are given, and refine the reading by the
   causal model; infer the exogenous noise u = s⁻¹(z), and by DDIM inversion the noise x_T from
   which the generator draws this image.
2. *Act*: z_cf = s(u; do), the factors had the intervention been made.
3. *Predict*: sample from x_T again, with the generator conditioned on z_cf, guided toward it, or
   both.

One abduction serves any number of interventions.

References:
    Causality, section 7.1 (Pearl, 2009); Deep structural causal models (Pawlowski et al., 2020),
    https://arxiv.org/abs/2006.06485; diffusion counterfactuals, arXiv 2407.20553.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffcf.causal import (
    Intervention,
    LocalPosterior,
    StructuralModel,
    Ties,
    completed,
    image_keys,
    normal_noise,
    row_keys,
    uniform_noise,
)
from diffcf.diffusion import (
    Denoiser,
    Generator,
    Inversion,
    NoGuidance,
    Prediction,
    Projector,
    agreement,
    denoiser_of,
    invert,
    sample,
    style_of,
    time_grid,
    with_style,
)
from diffcf.io import SettingsError, on_host
from diffcf.methods.hints import Hints, told_where_written
from diffcf.methods.interface import NO_READER, Counterfactual, World, check_image
from diffcf.methods.sampling import Sampling

READING, CONTENT = 0x8EAD, 0xC027
"""Seeds of the keys by which a reading, and new content of an image, are drawn."""


@dataclass(frozen=True)
class Drawing:
    """How and where a batch of factuals is drawn, which their answers keep.

    Attributes:
        style: code of how it is drawn, ``[B, S]``; None where the generator has none.
        written: where each factor is written, ``[B, K, H, W]``; None for anywhere.
    """

    style: Tensor | None = None
    written: Tensor | None = None

    def select(self, rows: Tensor) -> Drawing:
        """That of the images ``rows`` (long ``[N]``)."""
        parts = (None if part is None else part[rows] for part in (self.style, self.written))
        return Drawing(*parts)


class CounterfactualEngine:
    """Answers interventions with a trained generator, projector and structural causal model.

    Args:
        generator: predicts the velocity v of noisy images.
        projector: reads the factors' code off noisy images; None where factors are always given
            and nothing guides.
        nscm: the structural causal model.
        sampling: how images are drawn.
        bound: the largest magnitude of a pixel, to which answers are clipped; None for latents.
        hints: where factors are written, if anyone said: the generator is told each only there.
        ties: of the factors in the training data; None where they are not known.
    """

    def __init__(
        self,
        generator: Generator,
        projector: Projector | None,
        nscm: StructuralModel,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
        bound: float | None = 1.0,
        hints: Hints | None = None,
        ties: Ties | None = None,
    ) -> None:
        self.generator, self.projector, self.nscm = generator, projector, nscm
        self.sampling, self.bound, self.hints, self.ties = sampling, bound, hints, ties
        self.guidance = sampling.guidance or NoGuidance()
        if sampling.feedback is not None and projector is None:
            raise SettingsError(
                "Feedback corrects by what a projector reads, and this method has none: leave "
                "feedback of its sampling out."
            )

    @torch.no_grad()
    def abduct(
        self,
        image: Tensor,
        factors: Tensor | None = None,
        keys: Tensor | None = None,
        written: Tensor | None = None,
    ) -> Abducted:
        """Infer what stays the same under any intervention.

        Args:
            image: ``[B, C, H, W]`` in [-1, 1].
            factors: ``[B, K]`` in [0, 1] units where observed, NaN where not: the projector reads
                these; None has it read all.
            keys: of the images, ``[B]``; None derives them from what the images show.
            written: where each factor is written, ``[B, K, H, W]`` in [0, 1]; None as hints say.

        Raises:
            ValueError: for an image of the wrong shape or with non-finite pixels, and where there
                is no projector to read factors.
        """
        check_image(image)
        # Abduct
        observed, written = factors, self._written(image, written)
        if factors is None or self.may_lack(factors):
            factors = self.read(image, factors, written)
        factors, beyond = self.nscm.graph.clip(factors)
        keys = image_keys(image) if keys is None else keys
        exogenous = self.nscm.abduct(factors, keys)
        drawn = Drawing(style_of(self.generator, image), written)
        path, bias = self.invert(image, factors, drawn)
        known = self.nscm.graph, image, factors, exogenous, self, path, bias, drawn
        return Abducted(*known, observed, clipped=beyond, ties=self.ties, keys=keys)

    def _written(self, image: Tensor, written: Tensor | None) -> Tensor | None:
        """Where factors are written in images, as it was said or as hints say."""
        if written is None and self.hints is not None:
            return self.hints.masks(image)
        return written

    def may_lack(self, factors: Tensor) -> bool:
        """Whether some may have to be read; on a card that is not looked at, but assumed."""
        return bool(factors.isnan().any()) if on_host(factors) else self.projector is not None

    def read(
        self,
        image: Tensor,
        observed: Tensor | None = None,
        written: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Factors ``[B, K]`` read off images and refined; ``observed`` ones, not NaN, stay.

        What is observed of the causes refines the reading of their effects. Each is read where it
        is ``written``, as in :meth:`abduct`. With uniform ``noise`` ``[B, K]`` they are a draw of
        what the reading leaves open.
        """
        if self.projector is None:
            raise SettingsError(NO_READER)
        posterior = self.projector(image, image.new_zeros(len(image)))
        written = self._written(image, written)
        if written is not None and isinstance(posterior, LocalPosterior):
            posterior = posterior.within(written, self.nscm.graph.code_owner)
        contamination = self.sampling.contamination
        reading = posterior.mean, posterior.variance
        if observed is not None:
            return completed(self.nscm, *reading, observed, contamination, noise)
        if noise is not None:
            return self.nscm.refine(*reading, contamination, noise)
        return self.nscm.refine(*reading, contamination)

    @torch.no_grad()
    def invert(
        self, image: Tensor, factors: Tensor, drawn: Drawing
    ) -> tuple[Inversion, dict[float, Tensor]]:
        """``path`` and ``factual_bias`` of :class:`Abducted`, for images with ``factors``."""
        denoiser, sampling = self.denoiser(factors, drawn), self.sampling
        code = self.nscm.graph.encode(factors)
        factual_bias: dict[float, Tensor] = {}

        def observed(x_t: Tensor, time: float) -> Prediction:
            if sampling.anchored and self.projector is not None and self._reads_at(time):
                reading = self.projector(x_t, x_t.new_full((len(x_t),), time))
                factual_bias[time] = reading.mean - code
            return denoiser(x_t, time)

        times = time_grid(sampling.steps, sampling.t_max, sampling.spacing)
        return invert(observed, image, times, sampling.order, sampling.anchored), factual_bias

    def _reads_at(self, time: float) -> bool:
        feedback = self.sampling.feedback
        return self.guidance.covers(time) or (feedback is not None and feedback.covers(time))

    def denoiser(
        self,
        factors: Tensor,
        drawn: Drawing = Drawing(),
        mask: Tensor | None = None,
        factual: Tensor | None = None,
    ) -> Denoiser:
        """The denoiser conditioned on ``factors`` ``[B, K]``, of images ``drawn`` in some way.

        Classifier-free guidance applies only with the ``mask`` ``[B, K]`` (bool) of set factors
        and the ``factual`` ones ``[B, K]``.
        """
        free, generator = self.sampling.free, with_style(self.generator, drawn.style)
        if drawn.written is not None and self.sampling.conditional:
            generator = told_where_written(generator, drawn.written)
        guided = free is not None and self.sampling.conditional
        if guided and free is not None and mask is not None and factual is not None:
            reached = mask.to(factors) @ self.nscm.graph.reach.to(factors, non_blocking=True) > 0
            return free.wrap(generator, factors, reached, factual)
        condition = factors if self.sampling.conditional else None
        return denoiser_of(lambda x_t, t: generator(x_t, t, condition))


@dataclass(frozen=True)
class Abducted(World):
    """What :meth:`CounterfactualEngine.abduct` inferred from images.

    Attributes:
        exogenous: the causal noise u, ``[B, E]``.
        engine: what abducted it.
        path: from the factual to x_T.
        factual_bias: by time, the error of the projector's reading of the factual's own x_t against
            the factual's code, ``[B, E]``. Guidance expects the same error of the counterfactual's
            reading, and so asks for a change of factors only. Empty unless sampling is anchored.
        drawn: how and where the factual is drawn.
        observed: factors ``[B, K]`` that were given, NaN where one was not; None where all were
            read.
        fresh: share of the variance of x_T that is drawn anew, by ``keys``, where the content of
            an answer changes; 0 keeps the factual's.
    """

    exogenous: Tensor
    engine: CounterfactualEngine
    path: Inversion
    factual_bias: Mapping[float, Tensor]
    drawn: Drawing = Drawing()
    observed: Tensor | None = None
    fresh: float = 0.0

    def target(self, do: Intervention) -> Tensor:
        # Act
        if not self.engine.sampling.mechanisms:
            return torch.where(do.mask, do.values, self.factors)
        return self.engine.nscm.predict(self.factors, self.exogenous, do.values, do.mask)

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        shown, is_set = self._taught(do, target)
        # Predict
        image, trace = self._sampled(self.path, shown, is_set)
        if self.fresh > 0:
            image, trace = self._sampled(self._renewed(image, shown), shown, is_set)
        return Counterfactual(image, target, do, trace)

    def _sampled(
        self, path: Inversion, shown: Tensor, is_set: Tensor
    ) -> tuple[Tensor, list[tuple[float, Tensor]]]:
        """Images ``[B, C, H, W]`` that show factors, of which some are set; the guide's trace."""
        engine, guide = self.engine, None
        if engine.projector is not None:
            code = self.graph.encode(shown)
            guide = engine.guidance.bind(engine.projector, code, self.factual_bias)
        image = sample(self._denoiser(is_set, shown), path, engine.sampling.order, guide)
        if engine.bound is not None:
            image = image.clamp(-engine.bound, engine.bound)
        return image, guide.trace if guide else []

    def _renewed(self, image: Tensor, shown: Tensor) -> Inversion:
        """The path whose x_T is drawn anew where the answer ``image`` differs from the factual.

        Where no factor of an image moves, nothing is, however inexact its inversion.
        """
        keys = image_keys(self.image) if self.keys is None else self.keys
        noise = normal_noise(row_keys(keys, CONTENT), math.prod(image.shape[1:])).view_as(image)
        moves = (shown != self.factors).any(dim=1)[:, None, None, None]
        share = self.fresh * moves * (1 - agreement(image, self.image))
        return self.path.renewed(noise.to(image), share)

    def redrawn(self, keys: Tensor, fresh: float) -> Abducted:
        engine, world = self.engine, replace(self, keys=keys, fresh=fresh)
        if self.observed is None or engine.may_lack(self.observed):
            noise = uniform_noise(row_keys(keys, READING), len(self.graph))
            read = engine.read(self.image, self.observed, self.drawn.written, noise)
            factors, beyond = self.graph.clip(read)
            path, bias = engine.invert(self.image, factors, self.drawn)
            world = replace(world, factors=factors, clipped=beyond, path=path, factual_bias=bias)
        return replace(world, exogenous=engine.nscm.abduct(world.factors, keys))

    def _taught(self, do: Intervention, target: Tensor) -> tuple[Tensor, Tensor]:
        """What the picture is to show of ``target``, and which of that is set, both ``[B, K]``.

        A change that the training data do not teach is left out, unless it is to be drawn anyway:
        the factual's value stands in its place, or what follows from the causes.
        """
        undetermined, followed = self.undetermined(do, target), self.followed(do, target)
        if undetermined is None or self.engine.sampling.undetermined == "draw":
            return target, do.mask
        kept = self.factors
        if followed is not None:
            kept = torch.where(followed == target, kept, followed)
        return torch.where(undetermined, kept, target), do.mask & ~undetermined

    def _denoiser(self, is_set: Tensor, target: Tensor) -> Denoiser:
        """The denoiser conditioned on ``target`` ``[B, K]``, or on what feedback makes of it."""
        engine, graph, feedback = self.engine, self.graph, self.engine.sampling.feedback

        def denoiser_for(told: Tensor) -> Denoiser:
            return engine.denoiser(told, self.drawn, is_set, self.factors)

        if feedback is None or engine.projector is None:
            return denoiser_for(target)
        projector, fixed = engine.projector, graph.categorical.to(target.device)

        def read(x_t: Tensor, time: float) -> Tensor:
            mean = projector(x_t, x_t.new_full((len(x_t),), time)).mean - self.factual_bias[time]
            return torch.where(fixed, target, graph.decode(mean, hard=False))

        return feedback.wrap(denoiser_for, read, target, graph.binary.to(target.device))

    def reabduct(self, answer: Counterfactual) -> Abducted:
        shown, _ = self._taught(answer.intervention, answer.factors)
        path, factual_bias = self.engine.invert(answer.image, shown, self.drawn)
        return replace(self, image=answer.image, path=path, factual_bias=factual_bias)

    def select(self, rows: Tensor) -> Abducted:
        """The worlds ``rows`` (long ``[N]``) of the batch: many what-ifs of one image at once.

        ``world.select(torch.zeros(16, dtype=torch.long)).predict({"light": values})``
        """
        return replace(
            self,
            image=self.image[rows],
            factors=self.factors[rows],
            exogenous=self.exogenous[rows],
            clipped=None if self.clipped is None else self.clipped[rows],
            keys=None if self.keys is None else self.keys[rows],
            observed=None if self.observed is None else self.observed[rows],
            path=self.path.select(rows),
            drawn=self.drawn.select(rows),
            factual_bias={time: bias[rows] for time, bias in self.factual_bias.items()},
        )
