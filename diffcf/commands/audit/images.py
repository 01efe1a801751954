"""The images of an audit: files, or a random sample of a data set's split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffcf.api import Model
from diffcf.commands.measuring import SPLIT, model_data
from diffcf.io import SettingsError, image_files
from diffcf.training import FactorData

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


def audited(
    model: Model, paths: Sequence[Path], config: Path | None, count: int | None, seed: int
) -> AuditImages:
    """Of files or of data; SettingsError unless exactly one of them is named."""
    if bool(paths) == (config is not None):
        raise SettingsError("Name what to audit on: image files or folders, or --data CONFIG.")
    if config is not None:
        return AuditImages.of_data(model, config, count, seed)
    return AuditImages.of_files(model, paths, count)
