r"""Counterfactuals in the latents of a first stage; images at the edges only.

An autoencoder loses detail. What it lost of the factual, the residual
:math:`r = x - D(E(x))`, is given back wherever the counterfactual's image, decoded, agrees with the
factual's, decoded:

.. math:: x_{cf} = D(z_{cf}) + a \, r, \qquad a = \exp(-(d / \delta)^2),

with d the difference of the two decoded images, smoothed over some pixels. Where nothing changes
the answer is the factual's own pixels: under no intervention, all of it is. A filter of the change
(:mod:`diffcf.diffusion.change_filter`) takes the decoded images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from diffcf.causal import Intervention, image_keys
from diffcf.diffusion import ChangeFilter
from diffcf.methods.abducted import Abducted
from diffcf.methods.engine import CounterfactualEngine
from diffcf.methods.interface import Counterfactual, Method, World, check_image
from diffcf.networks.first_stage import LatentSpace

AGREEMENT = 0.1
"""δ, the difference of decoded pixels, in [-1, 1], at which the residual has faded to 1 / e."""
SMOOTHING = 5  # side in pixels of the square over which the difference is averaged


class EncodedMethod:
    """Answers by a method that works in the latents of a first stage."""

    def __init__(self, inner: Method, space: LatentSpace) -> None:
        self.inner, self.space = inner, space

    @property
    def change_filter(self) -> ChangeFilter | None:
        """What filters the change of decoded images, if sampling has one."""
        engine = self.inner
        return engine.sampling.change_filter if isinstance(engine, CounterfactualEngine) else None

    @torch.no_grad()
    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> EncodedWorld:
        """As :meth:`diffcf.methods.interface.Method.abduct`; ValueError for broken images."""
        check_image(image)
        # Of the image, so that answers do not depend on the first stage's rounding.
        keys = image_keys(image) if keys is None else keys
        latent = self.space.encode(image)
        inner = self._abducted(image, latent, factors, keys)
        known = inner.graph, image, inner.factors, inner.exogenous
        parts = inner, self.space, self.space.decode(latent), self.change_filter
        return EncodedWorld(*known, *parts, clipped=inner.clipped, ties=inner.ties, keys=keys)

    def read(self, image: Tensor) -> Tensor | None:
        """Factors ``[B, K]`` as :meth:`CounterfactualEngine.read`, of images; None without one."""
        if not isinstance(self.inner, CounterfactualEngine):
            return None
        latent = self.space.encode(image)
        return self.inner.read(latent, written=_written(self.inner, image, latent))

    def _abducted(
        self, image: Tensor, latent: Tensor, factors: Tensor | None, keys: Tensor
    ) -> World:
        if not isinstance(self.inner, CounterfactualEngine):
            return self.inner.abduct(latent, factors, keys)
        return self.inner.abduct(latent, factors, keys, _written(self.inner, image, latent))


def unwrapped(method: Method) -> tuple[Method, LatentSpace | None]:
    """What works on latents, and the first stage that makes them; a method of images as it is."""
    return (method.inner, method.space) if isinstance(method, EncodedMethod) else (method, None)


@dataclass(frozen=True)
class EncodedWorld(World):
    """What was inferred of images in latents.

    Attributes:
        inner: the world of the latents.
        space: the first stage.
        decoded: the factual as the first stage decodes it, ``[B, C, H, W]``.
        change_filter: what filters the change of images; None for nothing.
    """

    inner: World
    space: LatentSpace
    decoded: Tensor
    change_filter: ChangeFilter | None = None

    def target(self, do: Intervention) -> Tensor:
        return self.inner.target(do)

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        answer = self.inner.answer(do, target)
        decoded = self.space.decode(answer.image)
        residual = agreement(decoded, self.decoded) * (self.image - self.decoded)
        image = (decoded + residual).clamp(-1, 1)
        if self.change_filter is not None:
            image = self.change_filter(self.image, image).clamp(-1, 1)
        return replace(answer, image=image)

    def reabduct(self, answer: Counterfactual) -> EncodedWorld:
        latent = self.space.encode(answer.image)
        seen = replace(answer, image=latent)
        if isinstance(self.inner, Abducted):
            inner: World = self.inner.reabduct(
                seen, _written(self.inner.engine, answer.image, latent)
            )
        else:
            inner = self.inner.reabduct(seen)
        return replace(self, image=answer.image, inner=inner, decoded=self.space.decode(latent))

    def redrawn(self, keys: Tensor, fresh: float) -> EncodedWorld:
        inner = self.inner.redrawn(keys, fresh)
        return replace(
            self,
            factors=inner.factors,
            exogenous=inner.exogenous,
            clipped=inner.clipped,
            inner=inner,
            keys=keys,
        )

    def select(self, rows: Tensor) -> EncodedWorld:
        inner, decoded = self.inner.select(rows), self.decoded[rows]
        return replace(self._selected(rows), inner=inner, decoded=decoded)


def _written(engine: CounterfactualEngine, image: Tensor, latent: Tensor) -> Tensor | None:
    """Where hints say that factors are written in the latents of images; None without hints."""
    if engine.hints is None:
        return None
    size = (int(latent.shape[-2]), int(latent.shape[-1]))
    return F.adaptive_avg_pool2d(engine.hints.masks(image), size)


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """Where images ``[B, C, H, W]`` agree, ``[B, 1, H, W]`` in [0, 1]: 1 where they are equal."""
    difference = (a - b).abs().amax(dim=1, keepdim=True)
    margin = SMOOTHING // 2
    padded = F.pad(difference, (margin,) * 4, mode="replicate")
    smooth = F.avg_pool2d(padded, SMOOTHING, stride=1)
    return torch.exp(-(smooth / AGREEMENT).square())
