"""Pendulum: the 7,308 published factor combinations, drawn by our own renderer, as a data module.

The images are rendered at sub-pixel precision instead of loaded: in the published PNG files
matplotlib's snapping has quantised the shadow. Order and test split are the published ones.
"""

from __future__ import annotations

from torch import Tensor

from data_modules.base import SceneDataModule
from data_modules.scenes.pendulum import PendulumScene

__all__ = ["PendulumDataModule"]


class PendulumDataModule(SceneDataModule):
    """5,482 training and 1,826 test images of angle, light, shadow length and shadow position.

    Args:
        image_size: 32, 64, 96 or 128.
        batch_size, eval_batch_size, val_fraction, seed, num_workers, train_size, val_size,
            test_size: see :class:`data_modules.base.SceneDataModule`.
    """

    scene: PendulumScene

    def __init__(
        self,
        image_size: int = 64,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        val_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        train_size: int | None = None,
        val_size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        super().__init__(
            PendulumScene(),
            image_size,
            val_fraction,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
            train_size=train_size,
            val_size=val_size,
            test_size=test_size,
        )

    def grid(self) -> tuple[Tensor, Tensor, None]:
        return *self.scene.published_grid(), None
