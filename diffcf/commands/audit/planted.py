"""``diffcf audit WEIGHTS --planted 40 --data CONFIG``: how exact the effects of an audit are.

The counterfactuals of a random sample of a scene's test images are drawn once and scored by 40
random classifiers of a known bias (:mod:`diffcf.evaluation.audit.planted`). Their average effects
are compared with those upon exact counterfactual pictures: of the same images, and of all images of
the split, which is the population that the sample stands for.
"""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace

from diffcf.api import Model
from diffcf.commands.audit.images import AuditImages
from diffcf.commands.measuring import SPLIT, exact_scene, exact_worlds
from diffcf.evaluation import (
    INTERVAL_IMAGES,
    Classifier,
    PlantedClassifiers,
    audit_scores,
    default_contrasts,
    planted_errors,
)
from diffcf.reporting import markdown

AT_ONCE = 128


def planted(model: Model, chosen: AuditImages, count: int, parsed: Namespace) -> dict[str, Any]:
    """Errors and coverage of ``count`` classifiers.

    SettingsError for data without a scene whose counterfactuals are exact.
    """
    data, rows = chosen.data, chosen.rows
    assert data is not None and rows is not None and chosen.factors is not None
    scene = exact_scene(data, parsed.data)
    everything = torch.arange(data.size_of(SPLIT))
    call = PlantedClassifiers(scene, len(data.graph), count, parsed.seed)
    contrasts, notes = default_contrasts(data.graph, data.factors_of(SPLIT))
    scores = audit_scores(
        (
            model.abduct(chosen.images[k], chosen.factors[k], seed=parsed.seed).world
            for k in torch.arange(len(rows)).split(parsed.batch_size)
        ),
        Classifier("planted", call),
        contrasts,
    )
    same, population = (
        audit_scores(worlds, Classifier("planted", call), contrasts)
        for worlds in (
            exact_worlds(data, scene, SPLIT, some, AT_ONCE) for some in (rows, everything)
        )
    )
    found = planted_errors(scores, same, population, seed=parsed.seed)
    return {
        "contrasts": found,
        "notes": notes,
        "classifiers": count,
        "images": len(rows),
        "images of an interval": min(INTERVAL_IMAGES, len(rows)),
        "population": len(everything),
        "weights": call.weight.tolist(),
    }


def planted_table(found: list[dict[str, Any]]) -> str:
    """The ``contrasts`` of :func:`planted` as markdown."""
    head = ["contrast", "effect", "exact, mean size", "error", "with sampling", "coverage"]
    rows = [
        [
            row["contrast"],
            kind,
            f"{row[kind]['exact']:.3f}",
            f"{row[kind]['error']:.1%}",
            f"{row[kind]['sampling_error']:.1%}",
            f"{row[kind]['coverage']:.0%}",
        ]
        for row in found
        for kind in ("total", "direct")
    ]
    return markdown(head, rows)
