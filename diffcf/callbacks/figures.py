"""Pictures: the grid of counterfactuals and the curve of λ_t, as PNG files and to any logger."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from diffcf.evaluation import Example

__all__ = [
    "counterfactual_grid",
    "log_picture",
    "save_figure",
    "save_image",
    "show",
    "strength_curve",
]


def counterfactual_grid(example: Example, samples: int = 3) -> Figure:
    """A row per intervention; per sample: factual, counterfactual, exact, difference.

    The difference is |counterfactual − exact|, black on white, on the full scale of the pixels.
    Where the exact image is unknown, the change from the factual takes the place of both.
    """
    names = list(example.counterfactual)
    samples = min(samples, len(example.factual))
    panels = 4 if example.exact else 3
    size = (1.15 * panels * samples, 1.3 * len(names) + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(names), panels * samples, squeeze=False)
    for line, (row, name) in enumerate(zip(grid, names, strict=True)):
        for sample in range(samples):
            shown = _panels(example, name, sample)
            for axis, (title, image) in zip(row[panels * sample :], shown.items(), strict=False):
                show(axis, image)
                if line == 0:
                    axis.set_title(title, fontsize=7)
            row[panels * sample + 1].set_xlabel(example.label[name][sample], fontsize=6)
    return figure


def _panels(example: Example, name: str, sample: int) -> dict[str, Tensor]:
    """The pictures of one sample under one intervention, by title."""
    factual, drawn = example.factual[sample], example.counterfactual[name][sample]
    shown = {"factual": factual, "counterfactual": drawn}
    if not example.exact:
        return shown | {"change": 1 - (drawn - factual).abs()}
    exact = example.exact[name][sample]
    return shown | {"exact": exact, "difference": 1 - (drawn - exact).abs()}


def strength_curve(traces: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """λ_t (median over samples) against t, one line per intervention."""
    figure = Figure(figsize=(4, 3), dpi=150, layout="constrained")
    axis = figure.subplots()
    for name, trace in traces.items():
        times, strengths = zip(*trace, strict=True)
        axis.plot(times, strengths, label=f"do({name})", linewidth=1)
    axis.set(xlabel="t", ylabel="λ_t", yscale="symlog", xlim=(1, 0))
    axis.legend(fontsize=7)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.png")
    figure.savefig(unfinished)
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
