r"""New images from P(x) and P(x | do(…)): no factual, all noise drawn.

The exogenous noise u of the causal model is drawn from its prior, factors are z = s(u; do), and the
generator, conditioned on them, draws an image from pure noise x_T. All noise is a function of a
row's key alone: the same rows under two interventions are *coupled*, one world under both, and a
row is the same in any batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal import Intervention, RootQuantiles, StructuralModel, normal_noise
from diffcf.diffusion import Inversion, sample, time_grid
from diffcf.io import SettingsError
from diffcf.methods.encoded import unwrapped
from diffcf.methods.engine import CounterfactualEngine
from diffcf.methods.interface import Method

STEPS = 30
"""Evaluations of the generator; from pure noise it takes more than from an inverted image."""


@dataclass(frozen=True)
class DrawnImages:
    """Images that a model drew.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: that they were to show, ``[B, K]`` in [0, 1] units.
        exogenous: the causal noise, ``[B, E]``.
    """

    image: Tensor
    factors: Tensor
    exogenous: Tensor


@torch.no_grad()
def draw_images(
    method: Method,
    shape: tuple[int, ...],
    keys: Tensor,
    do: Intervention | None = None,
    steps: int = STEPS,
    roots: RootQuantiles | None = None,
) -> DrawnImages:
    """Draw an image for each of the ``keys`` ``[B]`` (:func:`diffcf.causal.row_keys`).

    Args:
        method: of a :class:`diffcf.methods.DiffusionCounterfactuals`.
        shape: ``(C, H, W)`` of the images.
        keys: what all noise is a function of.
        do: what is set; None for P(x).
        steps: of sampling, by the solver of order 2.
        roots: see :func:`draw_factors`.

    Raises:
        SettingsError: for a method that has no generator of noise, and fewer than one step.
    """
    engine, space = unwrapped(method)
    if not isinstance(engine, CounterfactualEngine):
        raise SettingsError(
            f"{type(engine).__name__} draws no new images: take weights of a diffusion method "
            "with a causal model."
        )
    factors, exogenous = draw_factors(engine.nscm, keys, do, roots)
    if space is not None:
        shape = space.shape_of(shape)
    x_T = normal_noise(keys, math.prod(shape)).view(-1, *shape).float()
    start = Inversion(x_T, time_grid(steps))
    image = sample(engine.denoiser(factors), start, order=2)
    image = image if space is None else space.decode(image)
    return DrawnImages(image.clamp(-1, 1), factors, exogenous)


@torch.no_grad()
def draw_factors(
    nscm: StructuralModel,
    keys: Tensor,
    do: Intervention | None = None,
    roots: RootQuantiles | None = None,
) -> tuple[Tensor, Tensor]:
    """Factors ``[B, K]``, within their range, and exogenous noise ``[B, E]``, without images.

    Roots of which the quantiles are known are drawn from these, others as the causal model has
    them; so are all where the graph was learned, which may have others for roots.
    """
    graph = nscm.graph
    nothing = Intervention.none(torch.zeros(len(keys), len(graph), device=keys.device))
    do = nothing if do is None else do
    factors, exogenous = nscm.draw(keys, do.values, do.mask)
    if roots is not None and getattr(nscm, "gates", None) is None:
        uniform = torch.special.ndtr(graph.first_columns(exogenous))
        values, mask = roots.impose(uniform, do.values, do.mask)
        factors, _ = nscm.draw(keys, values, mask)
        drawn = graph.per_column(mask & ~do.mask)
        exogenous = torch.where(drawn, nscm.abduct(factors, keys).to(exogenous), exogenous)
    return graph.clip(factors)[0], exogenous
