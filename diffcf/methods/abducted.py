"""What the counterfactual engine infers from images, and how it answers from it.

Act and predict are here; abduction is :class:`diffcf.methods.engine.CounterfactualEngine`'s, which
this refers back to for its networks and its sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffcf.causal import (
    Intervention,
    image_keys,
    likely_context,
    normal_noise,
    row_keys,
    uniform_noise,
)
from diffcf.diffusion import (
    Denoiser,
    Inversion,
    Prediction,
    agreement,
    missing_change,
    sample,
)
from diffcf.methods.hints import Region, regions, towards, unchanged
from diffcf.methods.interface import Counterfactual, World, rows_of

if TYPE_CHECKING:
    from diffcf.methods.engine import CounterfactualEngine

READING, CONTENT = 0x8EAD, 0xC027
"""Seeds of the keys by which a reading, and new content of an image, are drawn."""


@dataclass(frozen=True)
class Drawing:
    """How and where a batch of factuals is drawn, which their answers keep.

    Attributes:
        style: code of how it is drawn, ``[B, S]``; None where the generator has none.
        written: where each factor is written, ``[B, K, H, W]``; None for anywhere.
        regions: the regions that ``written`` makes, one or more; none where it is None.
    """

    style: Tensor | None = None
    written: Tensor | None = None
    regions: Sequence[Region] = ()

    @classmethod
    def of(cls, style: Tensor | None, written: Tensor | None) -> Drawing:
        """With the regions, which are found here once for all that is drawn in them."""
        return cls(style, written, () if written is None else regions(written))

    def towards(self, before: Tensor, after: Tensor) -> Drawing:
        """With the regions by which factors ``[B, K]`` are moved (:func:`towards`)."""
        return replace(self, regions=towards(self.regions, before, after)) if self.regions else self

    def select(self, rows: Tensor) -> Drawing:
        """That of the images ``rows`` (long ``[N]``)."""
        return Drawing.of(rows_of(self.style, rows), rows_of(self.written, rows))


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
        engine = self.engine
        image, trace = self._drawn(path, shown, is_set)
        if engine.sampling.residual:
            own = self._own_drawing
            image = image + agreement(image, own) * (self.image - own)
        if engine.bound is not None:
            image = image.clamp(-engine.bound, engine.bound)
            # Of latents the decoded images are filtered (diffcf.methods.encoded).
            if engine.sampling.change_filter is not None:
                image = engine.sampling.change_filter(self.image, image)
                image = image.clamp(-engine.bound, engine.bound)
        if self.drawn.regions:
            kept = unchanged(self.drawn.regions, self.factors, shown)
            image = torch.where(kept == 1, self.image, image + kept * (self.image - image))
        return image, trace

    def _drawn(
        self, path: Inversion, shown: Tensor, is_set: Tensor
    ) -> tuple[Tensor, list[tuple[float, Tensor]]]:
        """What is drawn from a path, before any of the factual is given back; the guide's trace."""
        engine, guide = self.engine, None
        if engine.projector is not None:
            code = self.graph.encode(shown)
            guide = engine.guidance.bind(engine.projector, code, self.factual_bias)
        image = sample(self._denoiser(is_set, shown), path, engine.sampling.order, guide)
        return image, guide.trace if guide else []

    @cached_property
    def _own_drawing(self) -> Tensor:
        """The factual as it is drawn itself, ``[B, C, H, W]``."""
        nothing = torch.zeros_like(self.factors, dtype=torch.bool)
        return self._drawn(self.path, self.factors, nothing)[0]

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
        followed = self.followed(do, target)
        undetermined = self.undetermined(target, followed)
        if undetermined is None or self.engine.sampling.undetermined == "draw":
            return target, do.mask
        kept = self.factors
        if followed is not None:
            kept = torch.where(followed == target, kept, followed)
        return torch.where(undetermined, kept, target), do.mask & ~undetermined

    def _denoiser(self, is_set: Tensor, target: Tensor) -> Denoiser:
        """The denoiser conditioned on ``target`` ``[B, K]``, or on what feedback makes of it.

        Where the weight of free guidance adapts it sees to the change, and feedback to the rest.
        """
        engine, graph, sampling = self.engine, self.graph, self.engine.sampling
        drawn = self.drawn.towards(self.factors, target)
        context = self._context(is_set, target)
        if engine.projector is None or not (sampling.adaptive or sampling.feedback):
            return engine.denoiser(target, drawn, is_set, self.factors, context=context)
        projector, feedback = engine.projector, sampling.feedback
        binary, fixed = (f.to(target.device) for f in (graph.binary, graph.categorical))
        owner = graph.code_owner.to(target.device, non_blocking=True)
        wanted, own = graph.encode(target), graph.encode(self.factors)

        def denoise(x_t: Tensor, time: float) -> Prediction:
            told, missing = target, None
            if sampling.reads_at(time):
                read = projector(x_t, x_t.new_full((len(x_t),), time)).mean
                read = read - self.factual_bias[time]
                if sampling.adaptive:
                    missing = missing_change(wanted, read, own, owner)
                if feedback is not None and feedback.covers(time):
                    seen = torch.where(fixed, target, graph.decode(read, hard=False))
                    told = feedback.told(target, seen, binary)
                    if sampling.adaptive:
                        told = torch.where(target == self.factors, told, target)
            known = is_set, self.factors, missing, context
            return engine.denoiser(told, drawn, *known)(x_t, time)

        return denoise

    def _context(self, is_set: Tensor, target: Tensor) -> Tensor | None:
        """The causes ``[B, K]`` beside which free guidance takes its push; None for the factual's.

        Whether any image lacks overlap decides how much is computed, and so is looked at.
        """
        free = self.engine.sampling.free
        if free is None or not free.overlap:
            return None
        known = self.factors, target, is_set, free.overlap
        context = likely_context(self.engine.nscm, *known)
        return context if bool((context != self.factors).any()) else None

    def reabduct(self, answer: Counterfactual, written: Tensor | None = None) -> Abducted:
        """See :meth:`World.reabduct`; ``written`` as :meth:`CounterfactualEngine.abduct`."""
        shown, _ = self._taught(answer.intervention, answer.factors)
        # A place that hints find is where the answer has it: bodies grow and move.
        written = self.engine.written(answer.image, written)
        written = self.drawn.written if written is None else written
        drawn = Drawing.of(self.drawn.style, written)
        path, factual_bias = self.engine.invert(answer.image, shown, drawn)
        return replace(self, image=answer.image, path=path, factual_bias=factual_bias, drawn=drawn)

    def select(self, rows: Tensor) -> Abducted:
        """The worlds ``rows`` (long ``[N]``) of the batch: many what-ifs of one image at once.

        ``world.select(torch.zeros(16, dtype=torch.long)).predict({"light": values})``
        """
        return replace(
            self._selected(rows),
            observed=rows_of(self.observed, rows),
            path=self.path.select(rows),
            drawn=self.drawn.select(rows),
            factual_bias={time: bias[rows] for time, bias in self.factual_bias.items()},
        )
