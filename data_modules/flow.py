"""Flow: the 8,100 published factor combinations, drawn by our own renderer, as a data module.

Factors are the true floats, and the split is by index: the published file names truncate, so that
8,100 renders share 6,050 names, some of them in both splits.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from data_modules.base import SceneDataModule
from data_modules.scenes.flow.scene import FlowScene


class FlowDataModule(SceneDataModule):
    """6,480 training and 1,620 test images of ball size, water height, hole and water flow.

    Args:
        image_size: 64, 96 or 128.
        val_fraction, common: see :class:`data_modules.base.SceneDataModule`.
    """

    scene: FlowScene

    def __init__(self, image_size: int = 64, val_fraction: float = 0.1, **common: Any) -> None:
        super().__init__(FlowScene(), image_size, val_fraction, **common)

    def grid(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.scene.published_grid()
