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

import torch
from torch import Tensor

from diffcf.causal import (
    LocalPosterior,
    StructuralModel,
    Ties,
    completed,
    image_keys,
)
from diffcf.diffusion import (
    Denoiser,
    Generator,
    Inversion,
    NoGuidance,
    Prediction,
    Projector,
    denoiser_of,
    invert,
    style_of,
    time_grid,
    with_style,
)
from diffcf.io import SettingsError, on_host
from diffcf.methods.abducted import Abducted, Drawing
from diffcf.methods.hints import Hints, told_where_written
from diffcf.methods.interface import NO_READER, check_image
from diffcf.methods.sampling import Sampling


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
        if projector is None and (sampling.feedback is not None or sampling.adaptive):
            raise SettingsError(
                "Feedback and adaptive free guidance go by what a projector reads, and this method "
                "has none: leave feedback of its sampling out, and set adaptive of free to false."
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
        observed, written = factors, self.written(image, written)
        if factors is None or self.may_lack(factors):
            factors = self.read(image, factors, written)
        factors, beyond = self.nscm.graph.clip(factors)
        keys = image_keys(image) if keys is None else keys
        exogenous = self.nscm.abduct(factors, keys)
        drawn = Drawing.of(style_of(self.generator, image), written)
        path, bias = self.invert(image, factors, drawn)
        known = self.nscm.graph, image, factors, exogenous, self, path, bias, drawn
        return Abducted(*known, observed, clipped=beyond, ties=self.ties, keys=keys)

    def written(self, image: Tensor, written: Tensor | None) -> Tensor | None:
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
        written = self.written(image, written)
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
        sampling = self.sampling
        # An anchor corrects the errors of the denoiser that draws: the same one has to invert.
        own = sampling.anchored and sampling.free is not None and not sampling.free.from_factual
        guided = torch.ones_like(factors, dtype=torch.bool) if own else None
        denoiser = self.denoiser(factors, drawn, guided, factors)
        code = self.nscm.graph.encode(factors)
        factual_bias: dict[float, Tensor] = {}

        def observed(x_t: Tensor, time: float) -> Prediction:
            if sampling.anchored and self.projector is not None and sampling.reads_at(time):
                reading = self.projector(x_t, x_t.new_full((len(x_t),), time))
                factual_bias[time] = reading.mean - code
            return denoiser(x_t, time)

        times = time_grid(sampling.steps, sampling.t_max, sampling.spacing)
        return invert(observed, image, times, sampling.order, sampling.anchored), factual_bias

    def denoiser(
        self,
        factors: Tensor,
        drawn: Drawing = Drawing(),  # noqa: B008 (immutable)
        mask: Tensor | None = None,
        factual: Tensor | None = None,
        missing: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Denoiser:
        """The denoiser conditioned on ``factors`` ``[B, K]``, of images ``drawn`` in some way.

        Classifier-free guidance applies only with the ``mask`` ``[B, K]`` (bool) of set factors
        and the ``factual`` ones ``[B, K]``; its weight adapts to what is ``missing`` ``[B]``, and
        its push may be taken beside other causes, those of a ``context`` ``[B, K]``.
        """
        free, generator = self.sampling.free, with_style(self.generator, drawn.style)
        if drawn.regions and self.sampling.conditional:
            ties = None if self.hints is None else self.hints.ties
            generator = told_where_written(generator, drawn.regions, ties)
        guided = free is not None and self.sampling.conditional
        if guided and free is not None and mask is not None and factual is not None:
            reached = self.nscm.graph.reached(mask)
            return free.wrap(generator, factors, reached, factual, missing, context)
        condition = factors if self.sampling.conditional else None
        return denoiser_of(lambda x_t, t: generator(x_t, t, condition))
