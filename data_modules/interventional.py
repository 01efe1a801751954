"""Training images in which somebody set a factor, drawn by a scene's true model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from data_modules.loading import ImageRows, Loaded
from data_modules.orders import repeated
from diffcf.causal import Scene, uniform_factors
from diffcf.io import DataError, to_bytes

ATTEMPTS, PATIENCE = 400, 20  # draws of a value, and those after which another image is taken
SLACK = 1e-4  # of a range, for rounding
DRAWN_AT_ONCE = 256  # images


class AppendedImages:
    """Images ``[N, C, H, W]`` in memory or in a file, and some more in memory behind them."""

    def __init__(self, images: ImageRows, count: int, more: Tensor) -> None:
        self.images, self.count, self.more = images, count, more

    def __getitem__(self, rows: Tensor) -> Tensor:
        behind = rows >= self.count
        if not behind.any():
            return self.images[rows]
        found = self.more.new_empty(len(rows), *self.more.shape[1:])
        found[behind] = self.more[rows[behind] - self.count]
        if not behind.all():
            found[~behind] = self.images[rows[~behind]]
        return found


def with_interventional(
    loaded: Loaded,
    train: Tensor,
    scene: Scene,
    count: int,
    generator: Generator,
    names: Sequence[str] | None = None,
) -> tuple[Loaded, Tensor]:
    """The dataset with ``count`` more rows, without their images, and which rows they are.

    Each is a training image in which one factor was set. Of the rows ``train`` those are taken of
    which all is known and nothing was set, each as often as another. Every factor (or those of
    these ``names``) is set equally often (the first ones once more, where the number does not
    divide), roots and leaves alike, to a value that is uniform over its range or its levels; what
    it causes follows by the true model, with the exogenous noise and the image noise of that row.
    Only what can be shown is kept: else another value is drawn, and after some attempts another
    row.

    Raises:
        DataError: where there is no such training row, or nothing that can be shown.
    """
    factors, noise, old = loaded.factors, loaded.noise, loaded.intervened
    old = torch.zeros(factors.shape, dtype=torch.bool) if old is None else old
    usable = train[~(factors[train].isnan() | old[train]).any(dim=1)]
    if not len(usable):
        raise DataError(
            "No training image has all its labels and nothing set, of which interventional ones "
            "could be made: set interventional to 0."
        )
    origin, made, mask = interventional_rows(scene, factors[usable], count, generator, names)
    added = torch.arange(len(factors), len(factors) + count)
    whole = replace(
        loaded,
        factors=torch.cat([factors, made]),
        split=loaded.split | {"train": torch.cat([loaded.split["train"], added])},
        noise=None if noise is None else torch.cat([noise, noise[usable[origin]]]),
        intervened=torch.cat([old, mask]),
    )
    return whole, added


def interventional_rows(
    scene: Scene,
    factors: Tensor,
    count: int,
    generator: Generator,
    names: Sequence[str] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``[count]`` of ``factors`` ``[N, K]``, their factors once one is set, and which one.

    See :func:`with_interventional`.
    """
    chosen = torch.tensor([scene.graph.column(name) for name in names or scene.graph.names])
    turn = chosen[torch.arange(count) % len(chosen)]
    mask = turn[:, None] == torch.arange(len(scene.graph))
    rows, missing = repeated(len(factors), count, generator), torch.ones(count, dtype=torch.bool)
    made = factors[rows]
    for attempt in range(ATTEMPTS):
        if attempt and attempt % PATIENCE == 0:
            others = torch.randint(len(factors), (count,), generator=generator)
            rows = torch.where(missing, others, rows)
        values = uniform_factors(scene.graph, count, generator).to(factors)
        drawn = sampled_counterfactual(scene, factors[rows], values, mask, generator)
        inside = ((drawn >= -SLACK) & (drawn <= 1 + SLACK)).all(dim=1)
        shown = missing & inside & scene.visible(drawn)
        made = torch.where(shown[:, None], drawn, made)
        missing = missing & ~shown
        if not missing.any():
            return rows, made, mask
    name = scene.graph.names[int(mask[missing][0].nonzero()[0])]
    raise DataError(
        f"No value of '{name}' was found that the scene can show: set interventional to 0."
    )


def sampled_counterfactual(
    scene: Scene, factors: Tensor, values: Tensor, mask: Tensor, generator: Generator
) -> Tensor:
    """``scene.counterfactual``, drawn where the scene knows only how likely a factor is 1."""
    if scene.identified:
        return scene.counterfactual(factors, values, mask)
    result, held = torch.where(mask, values, factors), mask
    for name in scene.graph.order:  # given its causes, drawn before, a factor's chance is exact
        own = torch.arange(len(scene.graph)) == scene.graph.column(name)
        chance = scene.counterfactual(factors, result, held)
        drawn = (torch.rand(len(factors), 1, generator=generator) < chance).to(factors)
        result = torch.where(own & ~held, drawn, result)
        held = held | own
    return result


def drawn_like(
    images: ImageRows, scene: Scene, factors: Tensor, noise: Tensor | None, row: Tensor
) -> Tensor:
    """Images of factors ``[N, K]`` in size and number format of the ``row`` ``[1]`` of others.

    Raises:
        DataError: for other images than the scene draws.
    """
    like = images[row][0]
    if like.shape[0] != 3:
        raise DataError(
            f"The scene draws in colour, and these images have {like.shape[0]} channels: set "
            "channels to 3, or interventional to 0."
        )
    parts = []
    for some in torch.arange(len(factors)).split(DRAWN_AT_ONCE):
        shown = None if noise is None else noise[some]
        drawn = scene.render(factors[some], like.shape[-1], shown)
        parts.append(to_bytes(drawn) if like.dtype == torch.uint8 else drawn.to(like.dtype))
    return torch.cat(parts)
