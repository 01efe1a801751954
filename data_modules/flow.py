"""Flow: the 8,100 published factor combinations, drawn by our own renderer, as a data module.

Factors are the true floats, and the split is by index: the published file names truncate, so that
8,100 renders share 6,050 names, some of them in both splits.
"""

from __future__ import annotations

from torch import Tensor

from data_modules.base import SceneDataModule
from data_modules.scenes.flow import FlowScene

__all__ = ["FlowDataModule"]


class FlowDataModule(SceneDataModule):
    """6,480 training and 1,620 test images of ball size, water height, hole and water flow.

    Args:
        image_size: 64, 96 or 128.
        batch_size, eval_batch_size, val_fraction, seed, num_workers, train_size, val_size,
            test_size: see :class:`data_modules.base.SceneDataModule`.
    """

    scene: FlowScene

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
            FlowScene(),
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

    def grid(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.scene.published_grid()
