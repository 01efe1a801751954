"""Counterfactual images to look at: the grid of single interventions, the strip of a sequence."""

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

from diffcf.causal import CausalGraph, Intervention
from diffcf.evaluation import Answered
from diffcf.io import whole_file


def counterfactual_grid(answered: Answered, graph: CausalGraph, samples: int = 3) -> Figure:
    """A row per intervention; per sample: factual, counterfactual, exact, difference.

    The difference is |counterfactual − exact|, black on white, on the full scale of the pixels.
    Where the exact image is unknown, the change from the factual takes the place of both.
    """
    names = list(answered.single)
    samples = min(samples, len(answered.batch.image))
    panels = 4 if answered.exact else 3
    size = (1.15 * panels * samples, 1.3 * len(names) + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(names), panels * samples, squeeze=False)
    for line, (row, name) in enumerate(zip(grid, names, strict=True)):
        for sample in range(samples):
            shown = _panels(answered, name, sample)
            for axis, (title, image) in zip(row[panels * sample :], shown.items(), strict=False):
                show(axis, image)
                if line == 0:
                    axis.set_title(title, fontsize=7)
            text = _label(graph, answered.single[name].intervention, sample)
            row[panels * sample + 1].set_xlabel(text, fontsize=6)
    return figure


def sequence_strips(answered: Answered, graph: CausalGraph, samples: int = 3) -> Figure:
    """Two rows per sample, ours over the exact one: the factual, then the image after each step.

    Without exact images there is one row per sample.
    """
    steps = len(answered.sequence)
    samples = min(samples, len(answered.sequence[0].image))
    rows = 2 if answered.sequence_exact else 1
    size = (1.2 * (steps + 1), 1.35 * rows * samples + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(rows * samples, steps + 1, squeeze=False)
    for sample in range(samples):
        drawn = [answered.batch.image, *(answer.image for answer in answered.sequence)]
        lines = [drawn, [drawn[0], *answered.sequence_exact]][:rows]
        for line, images in enumerate(lines):
            row = grid[rows * sample + line]
            for axis, image in zip(row, images, strict=True):
                show(axis, image[sample])
            row[0].set_ylabel(("counterfactual", "exact")[line] if rows > 1 else "", fontsize=6)
        row = grid[rows * sample]
        row[0].set_xlabel("factual", fontsize=6)
        for axis, do in zip(row[1:], answered.sequence_do, strict=True):
            # In two lines: neighbours would run into each other.
            axis.set_xlabel(_label(graph, do, sample).replace(" = ", "\n= "), fontsize=6)
    return figure


def _panels(answered: Answered, name: str, sample: int) -> dict[str, Tensor]:
    """The pictures of one sample under one intervention, by title."""
    factual, drawn = answered.batch.image[sample], answered.single[name].image[sample]
    shown = {"factual": factual, "counterfactual": drawn}
    if not answered.exact:
        return shown | {"change": 1 - (drawn - factual).abs()}
    exact = answered.exact[name][sample]
    return shown | {"exact": exact, "difference": 1 - (drawn - exact).abs()}


def _label(graph: CausalGraph, do: Intervention, sample: int) -> str:
    """What one image's intervention sets, in native units."""
    parts = [
        f"{factor.name} = {factor.text(value)}"
        for factor, value, is_set in zip(
            graph.factors, do.values[sample].tolist(), do.mask[sample].tolist(), strict=True
        )
        if is_set
    ]
    return f"do({', '.join(parts)})"


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
