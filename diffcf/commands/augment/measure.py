"""``diffcf augment … --measure FACTOR``: what counterfactuals are worth to a classifier.

A classifier of one factor (above the training median or not) is trained on training images, on
these and as many counterfactuals by the model in which the factor is set, and on these and as many
exact ones. It is tested on test images as they are, and on exact counterfactuals in which the
factor is set while its causes stay: there the confounding is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import torch
from jsonargparse import Namespace
from rich.progress import track
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import Intervention, Scene, TrueModel
from diffcf.commands.measuring import exact_scene, exact_worlds
from diffcf.evaluation import (
    EXACT,
    FACTUAL,
    EvaluationProtocol,
    InterventionPlan,
    Labelled,
    class_threshold,
    measure_augmentation,
)
from diffcf.reporting import markdown
from diffcf.training import FactorData

MODEL = "by the model"
AT_ONCE = 256
OBSERVED, SET = "as observed", "factor set"


@dataclass(frozen=True)
class _Asked:
    """Rows of a split and the intervention in each, on one factor."""

    split: str
    rows: Tensor
    do: Intervention


def measured(model: Model, data: FactorData, parsed: Namespace) -> dict[str, Any]:
    """Accuracies by training set, test set and seed, and the share of the gap that was closed.

    Raises:
        GraphError: for an unknown factor.
        SettingsError: for data without exact counterfactuals, or a categorical factor.
    """
    scene, name = exact_scene(data, parsed.config), parsed.measure
    column = data.graph.column(name)
    threshold = class_threshold(data.graph, name, data.factors_of("train"))
    train = _asked(data, "train", parsed)
    test = _asked(data, "test", parsed)

    def labelled(image: Tensor, factors: Tensor) -> Labelled:
        return Labelled(image, factors[:, column] > threshold)

    def factual(asked: _Asked) -> Labelled:
        image = data.images_of(asked.split, asked.rows).float()
        return labelled(image, data.factors_of(asked.split)[asked.rows])

    def exact(asked: _Asked) -> Labelled:
        return labelled(_exact(data, scene, asked), asked.do.values)

    drawn = torch.cat(list(_by_model(model, data, train, parsed)))
    additions = {MODEL: labelled(drawn, train.do.values), "exact": exact(train)}
    tests = {OBSERVED: factual(test), SET: exact(test)}
    seeds = range(parsed.seed, parsed.seed + parsed.seeds)
    found = [
        measure_augmentation(factual(train), additions, tests, parsed.steps, seed)
        for seed in track(seeds, description="classifiers")
    ]
    return {
        "factor": name,
        "threshold": float(data.graph.factors[column].to_native(torch.tensor(threshold))),
        "images": len(train.rows),
        "test_images": len(test.rows),
        "steps": parsed.steps,
        "accuracy": found,
        "closed": [_closed(one) for one in found],
    }


def _asked(data: FactorData, split: str, parsed: Namespace) -> _Asked:
    """Some images of a split; each gets the value of another, if that can be shown."""
    drawn = torch.Generator().manual_seed(parsed.seed)
    rows = torch.randperm(data.size_of(split), generator=drawn)[: parsed.count].sort().values
    factors = data.factors_of(split)[rows]
    protocol = EvaluationProtocol(factors=[parsed.measure], steps=0, seed=parsed.seed)
    known: TrueModel | None = data.scene
    do = InterventionPlan.of(data.graph, factors, protocol, known).single[parsed.measure]
    asked = do.mask.any(dim=1)
    return _Asked(split, rows[asked], do.rows(asked))


def _exact(data: FactorData, scene: Scene, asked: _Asked) -> Tensor:
    """The exact counterfactual pictures, ``[N, C, S, S]``."""
    worlds = exact_worlds(data, scene, asked.split, asked.rows, AT_ONCE)
    parts = torch.arange(len(asked.rows)).split(AT_ONCE)
    pairs = zip(worlds, parts, strict=True)
    return torch.cat([world.predict(asked.do.rows(part)).image for world, part in pairs])


def _by_model(model: Model, data: FactorData, asked: _Asked, parsed: Namespace) -> Iterator[Tensor]:
    """The model's pictures, in batches, on the processor."""
    factors = data.factors_of(asked.split)
    for part in track(
        torch.arange(len(asked.rows)).split(parsed.batch_size), description="counterfactuals"
    ):
        rows = asked.rows[part]
        image = data.images_of(asked.split, rows).float()
        world = model.abduct(image, factors[rows], seed=parsed.seed).world
        yield world.predict(asked.do.rows(part).to(model.device)).image.cpu()


def _closed(found: dict[str, dict[str, float]]) -> float | None:
    """The share of the exact counterfactuals' gain that the model's have; None without a gain."""
    without, best = found[FACTUAL][SET], found[EXACT][SET]
    if best <= without:
        return None
    return (found[f"{FACTUAL} + {MODEL}"][SET] - without) / (best - without)


def measured_table(record: dict[str, Any]) -> str:
    """Accuracies of :func:`measured`, mean ± standard deviation over seeds, as markdown."""
    found = record["accuracy"]
    rows = [
        [training, *(_spread([one[training][test] for one in found]) for test in tests)]
        for training, tests in found[0].items()
    ]
    return markdown(["trained on", *found[0][FACTUAL]], rows)


def _spread(values: list[float]) -> str:
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"
