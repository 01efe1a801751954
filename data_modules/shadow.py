"""Shadow: the 18,522 published factor combinations of either light, drawn by our own ray caster.

The images are a re-creation, not Blender's pixels; :mod:`data_modules.published_shadow` loads those.
There is no published split: a seeded part of the combinations is for test.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.base import SceneDataModule, carve, fraction
from data_modules.scenes.shadow.scene import PointlightScene, ShadowScene, SunlightScene

DRAWN_AT_ONCE = 2048  # images; their floats take 100 MB at 64 pixels


class ShadowDataModule(SceneDataModule):
    """What both lights share; use :class:`SunlightDataModule` or :class:`PointlightDataModule`.

    Combinations are in the order of the published loops: shape, object colour, size, light colour
    and, innermost, light position. Images are held as bytes: at 64 pixels all 18,522 take 230 MB.

    Args:
        scene: the synthetic world.
        image_size: 32, 64, 96, 128 or 256.
        test_fraction: part of the combinations that is for test, in (0, 1).
        val_fraction: part of the others that is held out, in (0, 1).
        common: see :class:`data_modules.base.SceneDataModule`; the seed also chooses the test
            images.
    """

    scene: ShadowScene

    def __init__(
        self,
        scene: ShadowScene,
        image_size: int = 64,
        test_fraction: float = 0.1,
        val_fraction: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(scene, image_size, val_fraction, **common)
        self.test_fraction = fraction("test_fraction", test_fraction)

    def grid(self) -> tuple[Tensor, Tensor, None]:
        factors = self.scene.published_grid()
        is_test = torch.zeros(len(factors), dtype=torch.bool)
        generator = Generator().manual_seed(self.seed)
        is_test[carve(torch.arange(len(factors)), self.test_fraction, generator)[1]] = True
        return factors, is_test, None

    def draw(self, factors: Tensor, noise: Tensor | None) -> Tensor:
        """Images as bytes, uint8 ``[N, 3, S, S]``."""
        images = torch.empty(len(factors), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for rows in torch.arange(len(factors)).split(DRAWN_AT_ONCE):
            drawn = self.scene.render(factors[rows], self.image_size)
            images[rows] = drawn.add_(1).mul_(127.5).round_().byte()
        return images


class SunlightDataModule(ShadowDataModule):
    """Shape, object colour, size, light position and colour, shadow area, floor colour.

    16,670 combinations are for training and validation, 1,852 for test, unless told otherwise.

    Args:
        image_size: 32, 64, 96, 128 or 256.
        common: see :class:`ShadowDataModule`.
    """

    def __init__(self, image_size: int = 64, **common: Any) -> None:
        super().__init__(SunlightScene(), image_size, **common)


class PointlightDataModule(ShadowDataModule):
    """The factors of Sunlight, and position and colour of the bright spot on the floor.

    16,670 combinations are for training and validation, 1,852 for test, unless told otherwise.

    Args:
        image_size: 32, 64, 96, 128 or 256.
        common: see :class:`ShadowDataModule`.
    """

    def __init__(self, image_size: int = 64, **common: Any) -> None:
        super().__init__(PointlightScene(), image_size, **common)
