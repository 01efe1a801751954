"""Errors of leaves against the number of interventional images. Needs no PyTorch."""

from __future__ import annotations

from math import log1p
from statistics import fmean

from matplotlib.figure import Figure

from diffcf.reporting.interventional import Lines


def interventional_figure(shown: Lines, title: str = "") -> Figure:
    """ACM of leaves against the number of images; bars are 95% intervals over images."""
    figure = Figure(figsize=(5, 3.4), dpi=150, layout="constrained")
    axis = figure.subplots()
    counts = sorted({count for line in shown.lines for count in line.leaves})
    for line in shown.lines:
        found = line.leaves.values()
        means = [fmean(statistic.values) for statistic in found]
        reach = [
            [mean - s.low for mean, s in zip(means, found, strict=True)],
            [s.high - mean for mean, s in zip(means, found, strict=True)],
        ]
        places = [log1p(count) for count in line.leaves]
        axis.errorbar(places, means, reach, fmt="o-", ms=4, lw=1.2, capsize=2, label=line.label)
    if shown.nothing is not None:
        axis.axhline(shown.nothing, color="0.4", linestyle="--", linewidth=1, label="do nothing")
    axis.set(xlabel="interventional images", ylabel="ACM of leaves", yscale="log")
    axis.set_title(title, fontsize=10)
    axis.set_xticks([log1p(count) for count in counts], [str(count) for count in counts])
    axis.grid(axis="y", which="both", linewidth=0.3, color="0.85")
    axis.legend(fontsize=8)
    return figure
