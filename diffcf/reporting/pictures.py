"""Figures of one test: images, sequences, doses, errors and λ_t; and images as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from diffcf.causal import CausalGraph, Intervention
from diffcf.evaluation import (
    READING,
    VALUE,
    CounterfactualBatch,
    CounterfactualEvaluation,
    GuidanceStrength,
)
from diffcf.io import read_picture, to_picture, whole_file

Rows = tuple[Tensor, Tensor, Tensor]
"""Values ``[n, Q]``, group ``[n]`` and image ``[n]`` (:meth:`ImageMetric.gathered`)."""


def figures_of(
    evaluation: CounterfactualEvaluation, answered: CounterfactualBatch | None, samples: int
) -> dict[str, Figure]:
    """Every picture of a test by name; every process has to call it, since errors are gathered."""
    figures: dict[str, Figure] = {}
    graph = evaluation.graph
    if answered is not None and answered.single:
        figures["grid"] = counterfactual_grid(answered, graph, samples)
        if answered.sequence:
            figures["sequence"] = sequence_strips(answered, graph, samples)
    for reading in evaluation.scores[""].readings[:1] if evaluation.plan.single else ():
        figures["dose_response"] = dose_response(reading.effectiveness.gathered(), graph)
        figures["errors"] = error_histograms(reading.acm.gathered(), graph)
    if evaluation.traces:
        figures["lambda_t"] = strength_curve(evaluation.traces)
    return figures


def _axes(size: tuple[float, float], rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure so many inches wide and high, with a grid of axes."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


# --- images ---


def counterfactual_grid(
    answered: CounterfactualBatch, graph: CausalGraph, samples: int = 3
) -> Figure:
    """A row per intervention; per sample: factual, counterfactual, exact, difference.

    The difference is |counterfactual − exact|, black on white, on the full scale of the pixels.
    Where the exact image is unknown, the change from the factual takes the place of both.
    """
    names = list(answered.single)
    samples = min(samples, len(answered.factual.image))
    panels = 4 if answered.exact else 3
    size = (1.15 * panels * samples, 1.3 * len(names) + 0.3)
    figure, grid = _axes(size, len(names), panels * samples)
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


def _panels(answered: CounterfactualBatch, name: str, sample: int) -> dict[str, Tensor]:
    """The pictures of one sample under one intervention, by title."""
    factual, drawn = answered.factual.image[sample], answered.single[name].image[sample]
    shown = {"factual": factual, "counterfactual": drawn}
    if not answered.exact:
        return shown | {"change": 1 - (drawn - factual).abs()}
    exact = answered.exact[name][sample]
    return shown | {"exact": exact, "difference": 1 - (drawn - exact).abs()}


def sequence_strips(answered: CounterfactualBatch, graph: CausalGraph, samples: int = 3) -> Figure:
    """Two rows per sample, ours over the exact one: the factual, then the image after each step.

    Without exact images there is one row per sample.
    """
    steps = len(answered.sequence)
    samples = min(samples, len(answered.sequence[0].image))
    rows = 2 if answered.sequence_exact else 1
    size = (1.2 * (steps + 1), 1.35 * rows * samples + 0.3)
    figure, grid = _axes(size, rows * samples, steps + 1)
    for sample in range(samples):
        drawn = [answered.factual.image, *(answer.image for answer in answered.sequence)]
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


def _label(graph: CausalGraph, do: Intervention, sample: int) -> str:
    """What one image's intervention sets, in native units."""
    row = zip(graph.factors, do.values[sample].tolist(), do.mask[sample].tolist(), strict=True)
    parts = (f"{factor.name} = {factor.text(value)}" for factor, value, is_set in row if is_set)
    return f"do({text})" if (text := ", ".join(parts)) else "not asked"


def show(axis: Axes, image: Tensor) -> None:
    """An image ``[C, H, W]`` in [-1, 1] on a matplotlib axis without ticks."""
    axis.imshow(to_picture(image), cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])


# --- curves ---


def strength_curve(traces: Mapping[str, Sequence[GuidanceStrength]]) -> Figure:
    """λ_t against t, a line per intervention: the median over images, and where 80% of them are."""
    figure, ((axis,),) = _axes((5, 3))
    for place, (name, trace) in enumerate(traces.items()):
        times, middle, low, high = np.array(trace).T
        # Side by side, since all are guided at the same times.
        times = times + 0.006 * (place - (len(traces) - 1) / 2)
        reach = middle - low, high - middle
        axis.errorbar(times, middle, reach, label=f"do({name})", fmt="o-", lw=1, ms=3, capsize=2)
    guided = [strength.t for trace in traces.values() for strength in trace]
    axis.set(xlabel="t", xlim=(max(guided) + 0.05, min(guided) - 0.05))
    axis.set(ylabel="λ_t", ylim=(0, None))
    figure.legend(fontsize=7, loc="outside right upper")
    return figure


def dose_response(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor, the value set against the value read back, with the diagonal.

    ``rows`` are of :class:`diffcf.evaluation.metrics.axioms.Effectiveness`. A discrete factor
    shows the mean reading of each level set.
    """
    values, group, _ = rows
    figure, axes = _factor_panels(graph, "set", "read")
    for column, (factor, axis) in enumerate(zip(graph.factors, axes, strict=True)):
        here = group == column
        read, dose = values[here, READING], values[here, VALUE]
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        axis.set(xlim=(-0.05, 1.05))
        if factor.continuous:
            axis.scatter(dose, read, s=3, alpha=0.4, linewidths=0)
        else:
            levels = dose.unique()
            means = torch.stack([read[dose == level].mean() for level in levels])
            axis.plot(levels, means, "o")
    return figure


def error_histograms(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor read, how its errors are distributed when it was set, and when another was.

    ``rows`` are of :class:`diffcf.evaluation.metrics.acm.ACM`: the mismatch of every factor.
    """
    values, group, _ = rows
    figure, axes = _factor_panels(graph, "error", "share of images")
    for column, axis in enumerate(axes):
        own, other = values[group == column, column], values[group != column, column]
        top = max(float(values[:, column].max()), 1e-3)
        for errors, label in ((own, "it was set"), (other, "another was set")):
            # Shares, not counts: the two groups differ in size.
            weights = torch.full_like(errors, 1 / max(len(errors), 1))
            axis.hist(errors, bins=30, range=(0, top), weights=weights, alpha=0.6, label=label)
        axis.set_yscale("log")
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].legend(fontsize=6)
    return figure


def _factor_panels(graph: CausalGraph, across: str, up: str) -> tuple[Figure, list[Axes]]:
    """A figure with small axes for each factor, four in a row at most."""
    columns = min(len(graph), 4)
    lines = -(-len(graph) // columns)
    figure, grid = _axes((2.3 * columns, 2.2 * lines), lines, columns)
    axes = list(grid.flat)
    for axis in axes[len(graph) :]:
        axis.set_axis_off()
    for factor, axis in zip(graph.factors, axes, strict=False):
        axis.set_title(factor.name, fontsize=8)
        axis.set_xlabel(across, fontsize=7)
        axis.set_ylabel(up, fontsize=7)
        axis.tick_params(labelsize=6)
    return figure, axes[: len(graph)]


# --- files ---


def save_image(image: Tensor, path: Path) -> None:
    """Write an image ``[C, H, W]`` in [-1, 1], grey or colour, as a PNG of as many pixels."""
    with whole_file(path, durable=False) as unfinished:
        to_picture(image).save(unfinished, format="PNG")


def log_picture(loggers: Iterable[Logger], key: str, path: Path, step: int) -> None:
    """Hand a PNG to every logger that takes pictures (W&B, TensorBoard)."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(path)], step=step)
        elif isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(read_picture(path).convert("RGB"))
            logger.experiment.add_image(key, pixels, step, dataformats="HWC")
