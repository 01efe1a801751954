"""Pendulum: the 7,308 published factor combinations, drawn by our own renderer, as a data module.

The images are rendered at sub-pixel precision instead of loaded: in the published PNG files
matplotlib's snapping has quantised the shadow. Order and test split are the published ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from data_modules.base import SceneDataModule
from data_modules.scenes.pendulum.scene import PendulumScene


class PendulumDataModule(SceneDataModule):
    """5,482 training and 1,826 test images of angle, light, shadow length and shadow position.

    Args:
        image_size: 32, 64, 96 or 128.
        val_fraction, common: see :class:`data_modules.base.SceneDataModule`.
    """

    scene: PendulumScene

    def __init__(self, image_size: int = 64, val_fraction: float = 0.1, **common: Any) -> None:
        super().__init__(PendulumScene(), image_size, val_fraction, **common)

    def grid(self) -> tuple[Tensor, Tensor, None]:
        return *self.scene.published_grid(), None
