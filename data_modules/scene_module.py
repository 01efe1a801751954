"""Base of the data modules whose images a scene draws."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor

from data_modules.base import FactorImageDataModule, carve, fraction
from data_modules.loading import Loaded
from diffcf.causal import Scene
from diffcf.io import ImageTransform


class SceneDataModule(FactorImageDataModule):
    """A data module whose images its scene draws, a ``scene_class``.

    Args:
        image_size: side of the images in pixels, one that the scene draws.
        val_fraction: part of the training images that is held out, in (0, 1).
        common: see :class:`FactorImageDataModule`.
    """

    scene: Scene
    scene_class: type[Scene]

    def __init__(self, image_size: int = 64, val_fraction: float = 0.1, **common: Any) -> None:
        scene = self.make_scene()
        super().__init__(scene.graph, scene, **common)
        self.image_size = scene.checked_size(image_size)
        self.transform = ImageTransform(image_size)
        self.val_fraction = fraction("val_fraction", val_fraction)

    def make_scene(self) -> Scene:
        """The scene that draws validation and test images and measures counterfactuals."""
        return self.scene_class()

    @abstractmethod
    def grid(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Factors ``[N, K]``, which are for test ``[N]`` (bool), and noise ``[N, M]`` or None."""

    def load(self, generator: Generator) -> Loaded:
        factors, is_test, noise = self.grid()
        train, val = carve((~is_test).nonzero()[:, 0], self.val_fraction, generator)
        split = self.kept({"train": train, "val": val, "test": is_test.nonzero()[:, 0]}, generator)
        # Only what is kept is drawn.
        rows = torch.cat(list(split.values())).sort().values
        split = {stage: torch.searchsorted(rows, kept) for stage, kept in split.items()}
        factors, noise = factors[rows], None if noise is None else noise[rows]
        return self.drawn(factors, noise, split)

    def drawn(self, factors: Tensor, noise: Tensor | None, split: dict[str, Tensor]) -> Loaded:
        """The dataset of factors ``[N, K]`` and noise ``[N, M]``, with its pictures."""
        return Loaded(self.draw(factors, noise), factors, split, noise)

    def draw(self, factors: Tensor, noise: Tensor | None) -> Tensor:
        """Images ``[N, C, H, W]`` of factors ``[N, K]``, as :class:`Loaded` has them."""
        return self.scene.render(factors, self.image_size, noise).half()
