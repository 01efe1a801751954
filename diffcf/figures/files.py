"""Pictures to files and loggers, and an image on an axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from diffcf.whole_file import whole_file

__all__ = ["log_picture", "save_figure", "save_image", "show"]


def save_figure(figure: Figure, path: Path, described: Mapping[str, str] | None = None) -> None:
    """Write a PNG, SVG or PDF, by the name's ending, whole or not at all.

    Args:
        figure: what to write.
        path: the file.
        described: texts inside a PNG, by keyword.
    """
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:].lower(), metadata=dict(described or {}))


def save_image(image: Tensor, path: Path) -> None:
    """Write an image ``[C, H, W]`` in [-1, 1], grey or colour, as a PNG of as many pixels."""
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    array = pixels.cpu().numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    with whole_file(path, durable=False) as unfinished:
        picture.save(unfinished, format="PNG")


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
