r"""Draws of a counterfactual: the posterior of what abduction leaves open.

One answer takes one world that explains the image. Three things are not determined by it, and each
draw takes others:

- the exogenous noise of discrete factors, from its posterior (:meth:`NSCM.abduct`);
- the factors that are read and not given, from what the projector and the mechanisms leave open
  (:mod:`diffcf.causal.refinement`), before exogenous noise and x_T are abducted from them;
- the content of the image where it changes: there a share of the variance of the abducted x_T
  comes from fresh Gaussian noise, :math:`x_T' = \sqrt{1 - a}\, x_T + \sqrt{a}\, \epsilon`, where a
  is ``fresh`` times how far the counterfactual, drawn once without, differs from the factual.

Under no intervention every draw is the factual. All noise is a function of the images' keys, the
seed and the number of the draw: a draw is the same in any batch, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, image_keys, row_keys
from diffcf.io import SettingsError, is_whole
from diffcf.methods.interface import World

MOST = 1000
"""Draws at once."""
FRESH = 0.5
"""Share of fresh noise, unless another is asked for."""


@dataclass(frozen=True)
class Draws:
    """N counterfactuals of each of B images.

    Attributes:
        graph: the factors.
        images: ``[N, B, C, H, W]`` in [-1, 1].
        factors: of the factuals, as drawn, ``[N, B, K]``, in the units that were asked for.
        targets: of the counterfactuals, likewise.
        clipped: which factors any draw clipped to their range, bool ``[B, K]``.
        undetermined: as of :class:`diffcf.Answer`, in any draw, bool ``[B, K]``.
        intervened: which factors were set in any draw, bool ``[B, K]``.
    """

    graph: CausalGraph
    images: Tensor
    factors: Tensor
    targets: Tensor
    clipped: Tensor
    undetermined: Tensor
    intervened: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean image ``[B, C, H, W]``."""
        return self.images[0] + (self.images - self.images[0]).mean(dim=0)

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each pixel over draws, ``[B, H, W]``: the root of the channels'
        mean variance."""
        # About the first draw, so that draws that are equal differ by exactly nothing.
        return (self.images - self.images[0]).var(dim=0).mean(dim=1).sqrt()

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Both ends ``[B, K]`` of the central interval of each factor's ``targets``."""
        return central_interval(self.targets, level)


def central_interval(drawn: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Both ends ``[...]`` of the central interval of draws ``[N, ...]``.

    Ends are values that were drawn, the next outside of the quantiles, so that the interval holds
    at least the share ``level`` of the draws. SettingsError for one outside (0, 1).
    """
    if not 0 < level < 1:
        raise SettingsError(f"The level of an interval lies in (0, 1), not {level}.")
    tail = (1 - level) / 2
    low = torch.quantile(drawn, tail, dim=0, interpolation="lower")
    return low, torch.quantile(drawn, 1 - tail, dim=0, interpolation="higher")


def check_draws(count: int, fresh: float) -> None:
    """SettingsError unless so many draws, with such a share of fresh noise, can be made."""
    if not is_whole(count) or not 1 <= count <= MOST:
        raise SettingsError(f"Draws are 1 to {MOST}, not {count!r:.100}.")
    if not 0 <= fresh <= 1:
        raise SettingsError(f"The share of fresh noise lies in [0, 1], not {fresh}.")


def drawn_worlds(world: World, count: int, seed: int = 0, fresh: float = FRESH) -> Iterator[World]:
    """``count`` draws of a world; SettingsError where its method offers none."""
    check_draws(count, fresh)
    keys = image_keys(world.image) if world.keys is None else world.keys
    keys = row_keys(keys, seed)
    for draw in range(count):
        yield world.redrawn(row_keys(keys, draw), fresh)
