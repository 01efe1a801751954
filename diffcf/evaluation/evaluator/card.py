"""An evaluator's card: how far its readings are off, where they matter.

Errors are measured on validation images (the ones that chose the weights), on held-out test images,
and, where a scene can draw them, on exact counterfactuals: the held-out images as they would have
been under an intervention on each factor in turn. The last are what counts. A network that reads a
shadow off the sun is right on every observed image and wrong on a shadow that was moved by hand, so
interventions on leaves, which break the causal mechanisms, are listed apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation.evaluator.reader import EvaluatorReader
from diffcf.evaluation.metrics.acm import absolute_counterfactual_mismatch
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.evaluation.oracle import Truth
from diffcf.evaluation.protocol import InterventionPlan, Protocol

DRAWN_AT_ONCE = 128
NO_SCENE = "unknown: these data have no scene to draw counterfactual images"
NOT_EXACT = (
    "unknown: the scene cannot draw exact counterfactual images, since its mechanisms are random "
    "or its image noise is not known"
)


def reading_error(read: Tensor, factors: Tensor, graph: CausalGraph) -> Tensor:
    """Per image and factor ``[B, K]``: |difference| of a continuous factor, else 1 where misread.

    Args:
        read: readings ``[B, K]``; the probability of a binary factor counts as 1 from ½ on.
        factors: what they should be, ``[B, K]``.

    Raises:
        ValueError: when shapes differ, or an entry is not finite.
    """
    error = absolute_counterfactual_mismatch(read, factors, graph)
    misread = ((read >= 0.5) != (factors >= 0.5)).to(error.dtype)
    return torch.where(graph.binary.to(read.device), misread, error)


class ReadingError(ImageMetric):
    """Mean error of readings: ``error/<factor>`` in parts of its range, and their mean ``error``.

    For discrete factors the error is the share of images that are misread.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> error = ReadingError(CausalGraph([Factor("size"), Factor("lit", "binary")]))
    >>> error.update(torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.tensor([[0.4, 1.0], [0.1, 1.0]]))
    >>> {name: round(float(value), 3) for name, value in error.compute().items()}
    {'error': 0.275, 'error/size': 0.05, 'error/lit': 0.5}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: Any) -> None:
        super().__init__(groups=1, quantities=len(graph), **kwargs)
        self.graph = graph

    def update(self, read: Tensor, factors: Tensor, index: Tensor | None = None) -> None:
        """Add readings ``[B, K]`` of images with these ``factors``; ``index`` is their rows."""
        self._add(reading_error(read, factors, self.graph), 0, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """See :meth:`ImageMetric.named`."""
        errors = dict(zip(self.graph.names, means[:, 0].unbind(dim=1), strict=True))
        return {
            "error": means[:, 0].mean(dim=1),
            **{f"error/{name}": value for name, value in errors.items()},
        }


def measure_readings(reader: EvaluatorReader, data: Any, seed: int = 0) -> dict[str, Any]:
    """All errors of an evaluator, by the kind of images.

    Args:
        data: the data module, set up (:class:`data_modules.base.FactorImageDataModule`).
        seed: of the interventions.

    Returns:
        ``validation`` and ``test``: errors by name, see :class:`ReadingError`. ``counterfactual``:
        the same by the name of the factor set, or one sentence that says why it is unknown; then
        also ``counterfactual_roots`` and ``counterfactual_leaves``, the largest errors of any
        factor under any of these interventions.
    """
    result: dict[str, Any] = {
        "validation": _observed(reader, data.val_dataloader()),
        "test": _observed(reader, data.test_dataloader()),
    }
    if data.scene is None:
        return result | {"counterfactual": NO_SCENE}
    truth = Truth(data.scene, data.noise_of("test"))
    if not truth.certain:
        return result | {"counterfactual": NOT_EXACT}
    errors = _counterfactual(reader, truth, data.factors_of("test"), seed)
    result["counterfactual"] = errors
    for group, names in (("roots", reader.graph.roots), ("leaves", reader.graph.leaves)):
        if names:
            result[f"counterfactual_{group}"] = max(
                value for name in names for key, value in errors[name].items() if key != "error"
            )
    return result


def _observed(reader: EvaluatorReader, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    error = ReadingError(reader.graph)
    for batch in batches:
        error.update(reader.read(batch["image"]), batch["factors"], batch["index"])
    return _numbers(error)


def _counterfactual(
    reader: EvaluatorReader, truth: Truth, factors: Tensor, seed: int
) -> dict[str, dict[str, float]]:
    """Errors on exact counterfactuals of the images with ``factors`` ``[N, K]``, by factor set."""
    scene = truth.scene
    assert scene is not None  # or it could not draw
    protocol = Protocol(steps=0, seed=seed)
    plan = InterventionPlan(reader.graph, factors, protocol, scene.counterfactual, scene.visible)
    errors = {}
    for name, do in plan.single.items():
        target = scene.counterfactual(factors, do.values, do.mask)
        error = ReadingError(reader.graph)
        for rows in torch.arange(len(factors)).split(DRAWN_AT_ONCE):
            images = truth.exact(target[rows], rows, reader.image_shape[-1])
            error.update(reader.read(images), target[rows], rows)
        errors[name] = _numbers(error)
    return errors


def _numbers(error: ReadingError) -> dict[str, float]:
    return {name: float(value) for name, value in error.compute().items()}


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card as people read it: a table of errors, and where they come from."""
    counterfactual, images, training = card["counterfactual"], card["images"], card["training"]
    known = isinstance(counterfactual, dict)
    names = [key.removeprefix("error/") for key in card["test"] if key != "error"]
    rows = {f"{stage} ({images[stage]} images)": card[stage] for stage in ("validation", "test")}
    if known:
        rows |= {f"exact counterfactuals, do({name})": e for name, e in counterfactual.items()}
    lines = [
        f"# Evaluator of {card['data']}, images of {' × '.join(map(str, card['image_shape']))}",
        "",
        "Mean absolute error in parts of each factor's range; of discrete factors the share of",
        "images that are misread.",
        "",
        f"| images | {' | '.join(names)} | mean |",
        "|---" * (len(names) + 2) + "|",
    ]
    for title, errors in rows.items():
        cells = [f"{errors[f'error/{name}']:.4f}" for name in names] + [f"{errors['error']:.4f}"]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    if not known:
        lines += ["", f"The error on counterfactual images is {counterfactual}."]
    return "\n".join([*lines, "", *_origin(card, training)]) + "\n"


def _origin(card: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return [
        f"{card['parameters']:,} parameters; {training['steps']} steps in "
        f"{training['seconds']:.0f} s on {training['device']}, seed {training['seed']};",
        f"the weights are those of step {training['selected_step']}, the best on validation.",
        f"Trained on the {card['images']['train']:,} images of the training split and no other.",
        f"{versions}.",
    ]
