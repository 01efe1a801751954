"""Pendulum: the 7,308 published factor combinations, drawn by our renderer or as published."""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes import PendulumScene, pendulum
from data_modules.stored import PublishedImagesDataModule, published_names
from data_modules.styled import StyledSceneDataModule


class PendulumDataModule(StyledSceneDataModule):
    """5,482 training and 1,826 test images of angle, light, shadow length and shadow position.

    By default they are rendered at sub-pixel precision: in the published PNG files matplotlib's
    snapping has quantised the shadow. Order and test split are the published ones.

    Arguments are those of :class:`StyledSceneDataModule`; ``image_size`` is 32, 64, 96 or 128.
    """

    scene: PendulumScene
    scene_class = PendulumScene

    def grid(self) -> tuple[Tensor, Tensor, None]:
        return *self.scene.published_grid(), None


class PublishedPendulumDataModule(PublishedImagesDataModule):
    """The 7,308 published Pendulum images. Angle and light are in their names, exactly.

    Arguments are those of :class:`PublishedImagesDataModule`; ``image_size`` is 32, 64, 96 or 128.
    """

    title = "Pendulum"
    lost = (
        "names cut shadow length and position to whole numbers, so these are computed anew from "
        "angle and light; the pictures show the shadow on whole pixels, so its read-out is off by "
        "about .01 of its range."
    )
    scene: PendulumScene
    scene_class = PendulumScene

    def published(self) -> tuple[Tensor, list[str], Tensor]:
        grid = pendulum.published_grid()
        steps = (grid[:, :2] * (200 / torch.pi)).round()
        names = published_names(torch.cat([steps, grid[:, 2:]], dim=1))
        return grid, names, self.scene.published_grid()[1]
