"""Measurements as curves: λ_t, dose and response, distributions of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from diffcf.evaluation.example import Strength
from diffcf.graph import CausalGraph
from diffcf.metrics.effectiveness import READING, VALUE

__all__ = ["dose_response", "error_histograms", "strength_curve"]

Rows = tuple[Tensor, Tensor, Tensor]
"""Values ``[n, Q]``, group ``[n]`` and image ``[n]`` (:meth:`ImageMetric.gathered`)."""


def strength_curve(traces: Mapping[str, Sequence[Strength]]) -> Figure:
    """λ_t against t, a line per intervention: the median over images, and where 80% of them are."""
    figure = Figure(figsize=(5, 3), dpi=150, layout="constrained")
    axis = figure.subplots()
    for place, (name, trace) in enumerate(traces.items()):
        times, middle, low, high = (torch.tensor(column) for column in zip(*trace, strict=True))
        # Side by side, since all are guided at the same times.
        times = times + 0.006 * (place - (len(traces) - 1) / 2)
        reach = torch.stack([middle - low, high - middle])
        axis.errorbar(times, middle, reach, label=f"do({name})", fmt="o-", lw=1, ms=3, capsize=2)
    guided = [strength.t for trace in traces.values() for strength in trace]
    axis.set(
        xlabel="t", ylabel="λ_t", ylim=(0, None), xlim=(max(guided) + 0.05, min(guided) - 0.05)
    )
    figure.legend(fontsize=7, loc="outside right upper")
    return figure


def dose_response(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor, the value set against the value read back, with the diagonal.

    Args:
        rows: of :class:`diffcf.metrics.Effectiveness`.
        graph: the factors. A discrete factor shows the mean reading of each level set.
    """
    values, group, _ = rows
    figure, axes = _panels(len(graph))
    for column, (factor, axis) in enumerate(zip(graph.factors, axes, strict=True)):
        here = group == column
        read, dose = values[here, READING], values[here, VALUE]
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        axis.set(title=factor.name, xlabel="set", ylabel="read", xlim=(-0.05, 1.05))
        if factor.kind == "continuous":
            axis.scatter(dose, read, s=3, alpha=0.4, linewidths=0)
        else:
            levels = dose.unique()
            means = torch.stack([read[dose == level].mean() for level in levels])
            axis.plot(levels, means, "o")
        _small(axis)
    return figure


def error_histograms(rows: Rows, graph: CausalGraph) -> Figure:
    """Per factor read, how its errors are distributed when it was set, and when another was.

    Args:
        rows: of :class:`diffcf.metrics.ACM`: the mismatch of every factor.
        graph: the factors.
    """
    values, group, _ = rows
    figure, axes = _panels(len(graph))
    for column, (factor, axis) in enumerate(zip(graph.factors, axes, strict=True)):
        own, other = values[group == column, column], values[group != column, column]
        top = max(float(values[:, column].max()), 1e-3)
        for errors, label in ((own, "it was set"), (other, "another was set")):
            # Shares, not counts: the two groups differ in size.
            weights = torch.full_like(errors, 1 / max(len(errors), 1))
            axis.hist(errors, bins=30, range=(0, top), weights=weights, alpha=0.6, label=label)
        axis.set(title=factor.name, xlabel="error", ylabel="share of images", yscale="log")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        _small(axis)
    axes[0].legend(fontsize=6)
    return figure


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """A figure with ``count`` axes, four in a row at most."""
    across = min(count, 4)
    down = -(-count // across)
    figure = Figure(figsize=(2.3 * across, 2.2 * down), dpi=150, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def _small(axis: Any) -> None:
    """Letters that fit a small panel."""
    axis.tick_params(labelsize=6)
    axis.title.set_fontsize(8)
    axis.xaxis.label.set_fontsize(7)
    axis.yaxis.label.set_fontsize(7)
