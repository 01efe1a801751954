"""Pictures to files and loggers, and an image on an axis."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

__all__ = ["log_picture", "save_figure", "save_image", "show"]


def save_figure(figure: Figure, path: Path, described: Mapping[str, str] | None = None) -> None:
    """Write a PNG whole or not at all, with texts inside it by keyword."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.png")
    figure.savefig(unfinished, metadata=dict(described or {}))
    os.replace(unfinished, path)


def save_image(image: Tensor, path: Path) -> None:
    """Write an image ``[C, H, W]`` in [-1, 1], grey or colour, as it is, pixel by pixel."""
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    array = pixels.cpu().numpy()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(path)


def log_picture(loggers: Iterable[Logger], key: str, path: Path, step: int) -> None:
    """Hand a PNG to every logger that takes pictures (W&B, TensorBoard)."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step=step)
        else:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_image"):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                experiment.add_image(key, pixels, step, dataformats="HWC")


def show(axis: Any, image: Tensor) -> None:
    """An image ``[C, H, W]`` in [-1, 1] on a matplotlib axis without ticks."""
    pixels = ((image.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy()
    grey = pixels.shape[2] == 1
    axis.imshow(pixels[..., 0] if grey else pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
