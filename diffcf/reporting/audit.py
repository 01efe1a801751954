"""An audit for people: tables of effects and groups, and the images that moved most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from diffcf.evaluation import Audit, ContrastScores
from diffcf.reporting.pictures import show
from diffcf.reporting.tables import markdown

OUTPUTS = 10
"""How many outputs a table shows of each contrast: those of the largest effects."""


def effects_table(audit: Audit) -> str:
    """Average total and direct effects with their intervals, and flips of the decision."""
    head = ["contrast", "output", "total effect", "direct effect", "decisions flipped", "images"]
    rows = []
    for entry in audit.effects:
        order = sorted(range(len(entry["total"])), key=lambda k: -abs(entry["total"][k]["mean"]))
        for k in order[:OUTPUTS]:
            total, direct, flips = entry["total"][k], entry["direct"][k], entry["flips"]["all"]
            numbers = [_number(total), _number(direct), _number(flips), str(total["images"])]
            rows.append([entry["contrast"], str(k), *numbers])
    return markdown(head, rows)


def groups_table(audit: Audit) -> str:
    """Mean scores and decisions of the images as they are, by group of each factor."""
    head = ["factor", "group", "output", "mean score", "decided", "images"]
    rows = []
    for entry in audit.groups:
        for k in range(len(entry["gap"]))[:OUTPUTS]:
            for group in entry["groups"]:
                score, decided = group["score"][k], group["decided"][k]
                shown = [_number(score), _number(decided), str(score["images"])]
                rows.append([entry["factor"], group["of"], str(k), *shown])
            gaps = [f"{entry[name][k]:.3g}" for name in ("gap", "decision_gap")]
            rows.append([entry["factor"], "*gap*", str(k), *gaps, ""])
    return markdown(head, rows)


def strata_table(audit: Audit) -> str:
    """Average total effects within the groups of other factors; empty where none was asked."""
    rows = [
        [entry["contrast"], f"{factor} {group['of']}", str(k), _number(total), str(total["images"])]
        for entry in audit.effects
        for factor, groups in entry["strata"].items()
        for group in groups
        for k, total in list(enumerate(group["total"]))[:OUTPUTS]
    ]
    return (
        markdown(["contrast", "within", "output", "total effect", "images"], rows) if rows else ""
    )


def audit_page(audit: Audit, title: str, settings: str, figures: Mapping[str, str]) -> str:
    """The report in markdown; ``figures`` are the files of pictures by contrast."""
    parts = [
        f"# {title}",
        settings,
        "Brackets hold 95% bootstrap intervals over images: they say nothing of errors of the "
        "counterfactuals themselves.",
        "## Effects",
        "*Total*: what is set moves its effects, too. *Direct*: these are held at their factual "
        "values.",
        effects_table(audit),
    ]
    if strata := strata_table(audit):
        parts += ["## Within groups", strata]
    parts += [
        "## Groups of the images as they are",
        "Groups differ in all that goes with a factor; what the factor does by itself is its "
        "effect, above.",
        groups_table(audit),
    ]
    if audit.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in audit.notes)]
    if figures:
        parts += ["## The images that moved most"]
        parts += [f"{contrast}\n\n![{contrast}]({file})" for contrast, file in figures.items()]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def moved_figure(scores: ContrastScores, images: Tensor, names: Sequence[str]) -> Figure:
    """The images ``[N, C, H, W]`` that a contrast moved most: factual, before and after it.

    Of each, the score that moved most stands above, before and after; its name below.
    """
    moved, (before, after) = scores.moved, scores.total
    panels = {"factual": images[moved.row]}
    panels |= {"versus": moved.before} if scores.contrast.versus else {}
    panels |= {"do": moved.after}
    count = len(moved.row)
    figure = Figure((1.4 * count, 1.4 * len(panels) + 0.3), dpi=150, layout="constrained")
    grid = figure.subplots(len(panels), count, squeeze=False)
    for line, (name, pictures) in zip(grid, panels.items(), strict=True):
        line[0].set_ylabel(name, fontsize=7)
        for axis, picture in zip(line, pictures, strict=True):
            show(axis, picture)
    for place, row in enumerate(moved.row.tolist()):
        output = int((after[row] - before[row]).abs().argmax())
        text = f"{before[row, output]:.3f} → {after[row, output]:.3f}"
        grid[0, place].set_title(text if before.shape[1] == 1 else f"[{output}] {text}", fontsize=6)
        label = names[row].encode("utf-8", "replace").decode()  # a file may have any name
        grid[-1, place].set_xlabel(label, fontsize=6, parse_math=False)
    return figure


def _number(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
