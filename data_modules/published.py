"""The published CausalVAE images of Pendulum and Flow: PNG folders, instead of our renders.

Files are named ``a_1_2_3_4.png`` in folders ``train`` and ``test``, where the numbers are factors
cut to whole numbers. Which row of the published grid a file shows is found by cutting the grid's
own factors in the same way, so that the factors here are the exact ones wherever a name still
tells them. The publishing script writes in the order of the grid; where two renders of one folder
share a name, the later has overwritten the earlier.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Generator, Tensor

from data_modules.base import Loaded, carve, fraction
from data_modules.scenes.flow import scene as flow
from data_modules.scenes.flow.scene import FlowScene
from data_modules.scenes.pendulum import scene as pendulum
from data_modules.scenes.pendulum.scene import PendulumScene
from data_modules.stored import ImageTable, StoredImageDataModule
from diffcf.causal import Scene
from diffcf.io import DataError


class PublishedImagesDataModule(StoredImageDataModule):
    """Images of a published folder, with the scene that they were drawn after.

    A folder may hold part of the published images. Warns, once, of what file names and pictures
    have lost.

    Args:
        scene: the synthetic world.
        root: folder that holds ``train`` and ``test``.
        image_size: side of the images in pixels, one that the scene draws; published are 96.
        val_fraction: part of the training images that is held out, in (0, 1).
        common: see :class:`data_modules.stored.StoredImageDataModule`.
    """

    title: str
    lost: str

    def __init__(
        self,
        scene: Scene,
        root: str | Path,
        image_size: int = 96,
        val_fraction: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(scene.graph, scene, image_size, None, 3, **common)
        self.root, self.val_fraction = Path(root), fraction("val_fraction", val_fraction)

    @abstractmethod
    def published(self) -> tuple[Tensor, list[str], Tensor]:
        """Native factors ``[N, K]`` (float64), file names, and which are for test, ``[N]``."""

    def load(self, generator: Generator) -> Loaded:
        rank_zero_warn(f"{self.title} of {self.root}: {self.lost}")
        return super().load(generator)

    def table(self, generator: Generator) -> ImageTable:
        factors, names, is_test = self.published()
        # A later row takes the place of an earlier one of the same name, as on the disk.
        row_of = {
            f"{'test' if test else 'train'}/{name}": row
            for row, (name, test) in enumerate(zip(names, is_test.tolist(), strict=True))
        }
        files = [*self._files("train"), *self._files("test")]
        for file in files:
            if file not in row_of:
                raise DataError(
                    f"Image {self.root / file} has no name of the published {self.title} images: "
                    "remove it, or check that train and test are the published folders."
                )
        files.sort(key=row_of.__getitem__)
        rows = torch.tensor([row_of[file] for file in files])
        tests = is_test[rows]
        train, val = carve((~tests).nonzero()[:, 0], self.val_fraction, generator)
        split = {"train": train, "val": val, "test": tests.nonzero()[:, 0]}
        scaled = self.graph.to_scaled(factors[rows]).float()
        return ImageTable(self.root, files, scaled, [f"{self.title} folder"] * len(files), split)

    def _files(self, stage: str) -> list[str]:
        files = [f"{stage}/{path.name}" for path in (self.root / stage).glob("*.png")]
        least = 2 if stage == "train" else 1
        if len(files) < least:
            raise DataError(
                f"Folder {self.root / stage} holds {len(files)} PNG files, too few: put the "
                f"published {self.title} images a_*.png into {self.root}/train and "
                f"{self.root}/test; they are never downloaded."
            )
        return files


class PublishedPendulumDataModule(PublishedImagesDataModule):
    """The 7,308 published Pendulum images. Angle and light are in their names, exactly.

    Args:
        root: folder that holds ``train/a_*.png`` and ``test/a_*.png``.
        image_size: 32, 64, 96 or 128; published are 96.
        common: see :class:`PublishedImagesDataModule`.
    """

    title = "Pendulum"
    lost = (
        "names cut shadow length and position to whole numbers, so these are computed anew from "
        "angle and light; the pictures show the shadow on whole pixels, so its read-out is off by "
        "about .01 of its range."
    )

    def __init__(self, root: str | Path, image_size: int = 96, **common: Any) -> None:
        super().__init__(PendulumScene(), root, image_size, **common)

    def published(self) -> tuple[Tensor, list[str], Tensor]:
        grid = pendulum.published_grid()
        steps = (grid[:, :2] * (200 / torch.pi)).round()
        numbers = torch.cat([steps, grid[:, 2:]], dim=1).trunc().long().tolist()
        return grid, [_name(row) for row in numbers], pendulum.published_test_mask()


class PublishedFlowDataModule(PublishedImagesDataModule):
    """The published Flow images: 6,874 files are left of 8,100 renders.

    Ball and hole are in the names, exactly. Height is cut to a whole number and flow to a tenth;
    together they tell all test files, and 4,044 of 5,254 training files, from every other render.
    The rest show the last render of their name; an earlier one would differ by .2 in height and .1
    in flow at most.

    Args:
        root: folder that holds ``train/a_*.png`` and ``test/a_*.png``.
        image_size: 64, 96 or 128; published are 96.
        common: see :class:`PublishedImagesDataModule`.
    """

    title = "Flow"
    lost = (
        "names cut water height to a whole number and flow to a tenth, so these are computed anew "
        "from the published loops; 1,226 of 8,100 renders were overwritten under a shared name, "
        "and the jet's random gravity is not known."
    )

    def __init__(self, root: str | Path, image_size: int = 96, **common: Any) -> None:
        super().__init__(FlowScene(), root, image_size, **common)

    def published(self) -> tuple[Tensor, list[str], Tensor]:
        grid = flow.published_grid()
        ball, height, hole, water_flow = grid.unbind(1)
        columns = torch.stack([(ball * 30).round(), height, water_flow * 10, hole], dim=1)
        names = [_name(row) for row in columns.trunc().long().tolist()]
        return grid, names, flow.published_test_mask()


def _name(numbers: list[int]) -> str:
    return f"a_{'_'.join(map(str, numbers))}.png"
