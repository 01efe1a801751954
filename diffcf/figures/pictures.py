"""Counterfactual images to look at: the grid of single interventions, the strip of a sequence."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from diffcf.evaluation.example import Answered
from diffcf.figures.files import show
from diffcf.graph import CausalGraph
from diffcf.intervention import Intervention

__all__ = ["counterfactual_grid", "sequence_strips"]


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
