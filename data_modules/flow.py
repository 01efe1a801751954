"""Flow: the 8,100 published factor combinations, drawn by our renderer or as published."""

from __future__ import annotations

import torch
from torch import Tensor

from data_modules.scenes import FlowScene, flow
from data_modules.stored import PublishedImagesDataModule, published_names
from data_modules.styled import StyledSceneDataModule


class FlowDataModule(StyledSceneDataModule):
    """6,480 training and 1,620 test images of ball size, water height, hole and water flow.

    Factors are the true floats, and the split is by index: the published file names truncate, so
    that 8,100 renders share 6,050 names, some of them in both splits.

    Arguments are those of :class:`StyledSceneDataModule`; ``image_size`` is 64, 96 or 128.
    """

    scene: FlowScene
    scene_class = FlowScene

    def grid(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.scene.published_grid()


class PublishedFlowDataModule(PublishedImagesDataModule):
    """The published Flow images: 6,874 files are left of 8,100 renders.

    Ball and hole are in the names, exactly. Height is cut to a whole number and flow to a tenth;
    together they identify all test files, and 4,044 of 5,254 training files, among all renders.
    The rest show the last render of their name; an earlier one would differ by .2 in height and .1
    in flow at most.

    Arguments are those of :class:`PublishedImagesDataModule`; ``image_size`` is 64, 96 or 128.
    """

    title = "Flow"
    lost = (
        "names cut water height to a whole number and flow to a tenth, so these are computed anew "
        "from the published loops; 1,226 of 8,100 renders were overwritten under a shared name, "
        "and the jet's random gravity is not known."
    )
    scene: FlowScene
    scene_class = FlowScene

    def published(self) -> tuple[Tensor, list[str], Tensor]:
        grid = flow.published_grid()
        ball, height, hole, water_flow = grid.unbind(1)
        numbers = torch.stack([(ball * 30).round(), height, water_flow * 10, hole], dim=1)
        return grid, published_names(numbers), self.scene.published_grid()[1]
