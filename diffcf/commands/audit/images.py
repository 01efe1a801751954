"""The images of an audit: files, or a random sample of a data set's split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffcf.api import Model
from diffcf.io import CheckpointError, DataError, SettingsError, image_files
from diffcf.training import FactorData, load_data

SPLIT = "test"
SAMPLED = 256


@dataclass(frozen=True)
class AuditImages:
    """What is audited.

    Attributes:
        names: of the images, N.
        images: ``[N, C, S, S]`` in [-1, 1].
        factors: the observed ones, ``[N, K]`` in [0, 1] units with NaN for a missing label; None
            where all are read.
        rows: of the split, ``[N]``; None of files.
        data: the data set, where they are of one.
    """

    names: Sequence[str]
    images: Tensor
    factors: Tensor | None
    rows: Tensor | None = None
    data: FactorData | None = None

    @classmethod
    def of_files(cls, model: Model, paths: Sequence[Path], count: int | None) -> AuditImages:
        """The first ``count`` image files of ``paths``, or all; DataError for one of no use."""
        files = list(image_files(paths).values())[:count]
        return cls([file.stem for file in files], model.open_images(files), None)

    @classmethod
    def of_data(cls, model: Model, config: Path, count: int | None, seed: int) -> AuditImages:
        """A random sample of the test split of :func:`model_data`, with their factors."""
        data = model_data(model, config)
        drawn = torch.randperm(data.size_of(SPLIT), generator=torch.Generator().manual_seed(seed))
        rows = drawn[: count or SAMPLED].sort().values
        images = data.images_of(SPLIT, rows).float()
        names = [f"{SPLIT}_{row}" for row in rows.tolist()]
        return cls(names, images, data.factors_of(SPLIT)[rows], rows, data)


def model_data(model: Model, config: Path) -> FactorData:
    """The data that a YAML describes, set up, whose images are as the model takes them.

    Raises:
        CheckpointError: for data of another graph than the model's.
        DataError: for images of another form than the model's.
    """
    data = load_data(config)
    if data.graph != model.graph:
        raise CheckpointError(
            f"The model belongs to another graph, {model.graph}, than {config}: name its data."
        )
    data.prepare_data()
    data.setup()
    found = tuple(data.images_of(SPLIT, torch.tensor([0])).shape[1:])
    shape = model.module.image_shape
    if shape is not None and found != tuple(shape):
        raise DataError(
            f"Images of {config} are {list(found)}, and the model draws {list(shape)}: set "
            "image_size and channels of the data."
        )
    return data


def audited(
    model: Model, paths: Sequence[Path], config: Path | None, count: int | None, seed: int
) -> AuditImages:
    """Of files or of data; SettingsError unless exactly one of them is named."""
    if bool(paths) == (config is not None):
        raise SettingsError("Name what to audit on: image files or folders, or --data CONFIG.")
    if config is not None:
        return AuditImages.of_data(model, config, count, seed)
    return AuditImages.of_files(model, paths, count)
