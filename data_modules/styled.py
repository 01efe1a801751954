"""Data modules whose scene has several styles: training sees the pictures in many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.loading import Batch, ImageRows, Loaded
from data_modules.resident import take
from data_modules.scene_module import SceneDataModule
from data_modules.scenes.style import StyledScene, checked_style
from diffcf.io import to_bytes

DRAWN_AT_ONCE = 2048  # images, to bound the memory of floats before they become bytes


class StyledImages:
    """Images in bytes ``[N, C, S, S]``: rows of training in several styles, all others in one.

    Indexing draws what is asked for. A batch has one style: images of two styles differ
    everywhere, so that no region of one could be pasted into the other unseen (see
    :class:`diffcf.networks.RegionMixer`). Which one follows from its rows alone, so that a resumed
    run sees the same.

    Args:
        draw: ``draw(style, rows)`` gives the images ``[B, C, S, S]`` of rows ``[B]`` as bytes.
        count: N.
        train: rows of training, int64.
        style, train_styles: names of the styles of all other rows, and of these.
    """

    def __init__(
        self,
        draw: Callable[[str, Tensor], Tensor],
        count: int,
        train: Tensor,
        style: str,
        train_styles: Sequence[str],
    ) -> None:
        self._draw, self.train, self.style, self.train_styles = draw, train, style, train_styles
        # Of a row among those of training, from 0 up, or among the others, from -1 down.
        self.place = torch.full((count,), -1)
        self.place[train] = torch.arange(len(train))
        self._others = (self.place < 0).nonzero()[:, 0]
        self.place[self._others] = -1 - torch.arange(len(self._others))
        self._drawn: dict[str, Tensor] = {}
        self._drawn_others: Tensor | None = None

    def draw_training(self) -> None:
        """Draw all training images, once, so that batches are only looked up."""
        for style in self.train_styles:
            if style not in self._drawn:
                self._drawn[style] = self._draw(style, self.train)

    def size_when_placed(self) -> int:
        """Bytes of all images, those of training in every style."""
        count = len(self._others) + len(set(self.train_styles)) * len(self.train)
        return count * self._draw(self.style, self.train[:1]).nbytes

    def placed(self, device: torch.device) -> StyledImages:
        """The same images on a device, all drawn."""
        there = copy(self)
        there._drawn = {
            style: self._draw(style, self.train).to(device) for style in set(self.train_styles)
        }
        there._drawn_others = self._draw(self.style, self._others).to(device)
        return there

    def __getitem__(self, rows: Tensor) -> Tensor:
        places = self.place[rows]
        if not len(rows) or places[0] < 0:
            if self._drawn_others is None:
                return self._draw(self.style, rows)
            return take(self._drawn_others, -1 - places)
        style = self.train_styles[int(rows.sum()) % len(self.train_styles)]
        return take(self._drawn[style], places) if style in self._drawn else self._draw(style, rows)


class StyledSceneDataModule(SceneDataModule):
    """A data module that draws in one of the scene's styles, and trains on one or more.

    Args:
        image_size: side of the images in pixels, one that the scene draws.
        val_fraction: part of the training images that is held out, in (0, 1).
        style: how validation and test images are drawn, and for which drawing the ruler that
            measures counterfactuals is calibrated; see :data:`data_modules.scenes.style.STYLES`.
        train_styles: the styles of training batches, in equal parts (a style that is named twice
            gets two); None for ``style`` alone.
        common: see :class:`data_modules.FactorImageDataModule`.

    Raises:
        ValueError: for a style that does not exist, or none to train on.
    """

    scene: StyledScene
    scene_class: type[StyledScene]

    def __init__(
        self,
        image_size: int = 64,
        val_fraction: float = 0.1,
        style: str = "subpixel",
        train_styles: Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        self.style = style
        self.train_styles = (style,) if train_styles is None else tuple(train_styles)
        if not self.train_styles:
            raise ValueError("train_styles is empty: name a style, or leave it out.")
        for name in self.train_styles:
            checked_style(name)
        super().__init__(image_size, val_fraction, **common)

    def make_scene(self) -> StyledScene:
        return self.scene_class(self.style)

    def drawn(self, factors: Tensor, noise: Tensor | None, split: dict[str, Tensor]) -> Loaded:
        if self.train_styles == (self.style,):
            return super().drawn(factors, noise, split)

        def draw(style: str, rows: Tensor) -> Tensor:
            scene = self.scene_class(style)
            parts = [
                to_bytes(scene.render(factors[some], self.image_size, _at(noise, some)))
                for some in rows.split(DRAWN_AT_ONCE)
            ]
            return torch.cat(parts)

        styles = (self.style, self.train_styles)
        images = StyledImages(draw, len(factors), split["train"], *styles)
        return Loaded(images, factors, split, noise)

    def extended(self, images: ImageRows, whole: Loaded, added: Tensor) -> ImageRows:
        if isinstance(images, StyledImages):  # which draws when it is asked
            return self.drawn(whole.factors, whole.noise, whole.split).images
        return super().extended(images, whole, added)

    def train_dataloader(self) -> DataLoader[Batch]:
        images = self.dataset("train").images
        if isinstance(images, StyledImages):
            images.draw_training()
        return super().train_dataloader()


def _at(noise: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if noise is None else noise[rows]
