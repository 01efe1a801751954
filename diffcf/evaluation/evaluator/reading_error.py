"""How far readings of factors are off.

Errors are measured on validation images (the ones that chose the weights), on held-out test images
and, where a scene can draw them, on exact counterfactuals of these, each factor set in turn. The
last count: a network that reads a shadow off the sun is right on every observed image and wrong on
a shadow that was moved by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Scene
from diffcf.evaluation.evaluator.reader import Card, EvaluatorReader
from diffcf.evaluation.metrics.acm import absolute_counterfactual_mismatch
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.evaluation.plan import InterventionPlan
from diffcf.evaluation.protocol import EvaluationData, EvaluationProtocol
from diffcf.evaluation.references import Truth

DRAWN_AT_ONCE = 128
NO_SCENE = "unknown: these data have no scene to draw counterfactual images"
NOT_EXACT = (
    "unknown: the scene cannot draw exact counterfactual images, since its mechanisms are random "
    "or its image noise is not known"
)


def reading_error(read: Tensor, factors: Tensor, graph: CausalGraph) -> Tensor:
    """Per image and factor ``[B, K]``: |difference| of a continuous factor, else 1 where misread.

    The probability of a binary factor counts as 1 from ½ on. ValueError for shapes that differ,
    and for NaN.
    """
    error = absolute_counterfactual_mismatch(read, factors, graph)
    misread = ((read >= 0.5) != (factors >= 0.5)).to(error.dtype)
    return torch.where(graph.binary.to(read.device), misread, error)


class ReadingError(ImageMetric):
    """Means of :func:`reading_error`: ``error/<factor>``, and ``error`` over all factors.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> error = ReadingError(CausalGraph([Factor("size"), Factor("lit", "binary")]))
    >>> error.update(torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.tensor([[0.4, 1.0], [0.1, 1.0]]))
    >>> {name: round(float(value), 3) for name, value in error.compute().items()}
    {'error': 0.275, 'error/size': 0.05, 'error/lit': 0.5}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: object) -> None:
        super().__init__(groups=1, quantities=len(graph), **kwargs)
        self.graph = graph

    def update(
        self,
        read: Tensor,
        factors: Tensor,
        index: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Add readings ``[B, K]`` of images with these ``factors``; ``index`` is their rows.

        ``weight`` ``[B, K]`` is of each error (:class:`diffcf.causal.LevelBalance`).
        """
        error = reading_error(read, factors, self.graph)
        self._add(error if weight is None else error * weight, 0, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The mean over factors, and each factor's error."""
        names = [f"error/{name}" for name in self.graph.names]
        errors = zip(names, means[:, 0].unbind(dim=1), strict=True)
        return {"error": means[:, 0].mean(dim=1), **dict(errors)}


def measure_readings(reader: EvaluatorReader, data: EvaluationData, seed: int = 0) -> Card:
    """All errors of an evaluator, by the kind of images; ``seed`` is that of the interventions.

    Returns:
        ``validation`` and ``test``: errors by name, see :class:`ReadingError`. ``counterfactual``:
        the same by the factor set, with ``counterfactual_roots`` and ``counterfactual_leaves``, the
        largest errors of any factor under these interventions; or a sentence why it is unknown.
    """
    result: Card = {}
    for name, loader in ("validation", data.val_dataloader()), ("test", data.test_dataloader()):
        observed = ((batch["image"], batch["factors"], batch["index"]) for batch in loader)
        result[name] = _errors(reader, observed)
    if not isinstance(data.scene, Scene):
        return result | {"counterfactual": NO_SCENE}
    truth = Truth(data.scene, data.noise_of("test"))
    if not truth.certain:
        return result | {"counterfactual": NOT_EXACT}
    errors = _counterfactual(reader, truth, data.factors_of("test"), seed)
    result["counterfactual"] = errors
    for group, names in (("roots", reader.graph.roots), ("leaves", reader.graph.leaves)):
        known = [errors[name] for name in names if name in errors]  # what could be set at all
        if known:
            result[f"counterfactual_{group}"] = max(
                value for found in known for key, value in found.items() if key != "error"
            )
    return result


def _errors(
    reader: EvaluatorReader, batches: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> dict[str, float]:
    """Errors by name, of batches of images, their factors and their rows in the set."""
    error = ReadingError(reader.graph)
    for images, factors, index in batches:
        error.update(reader.read(images), factors, index)
    return {name: float(value) for name, value in error.compute().items()}


def _counterfactual(
    reader: EvaluatorReader, truth: Truth, factors: Tensor, seed: int
) -> dict[str, dict[str, float]]:
    """Errors on exact counterfactuals of the images with ``factors`` ``[N, K]``, by factor set."""
    scene = truth.scene
    assert isinstance(scene, Scene)  # or it could not draw
    protocol = EvaluationProtocol(steps=0, seed=seed)
    plan = InterventionPlan(reader.graph, factors, protocol, scene.counterfactual, scene.visible)
    size, parts = reader.image_shape[-1], torch.arange(len(factors)).split(DRAWN_AT_ONCE)
    errors = {}
    for name, do in plan.single.items():
        target = scene.counterfactual(factors, do.values, do.mask)
        asked = (part[do.mask[part].any(dim=1)] for part in parts)
        drawn = ((truth.exact(target[r], r, size), target[r], r) for r in asked if len(r))
        errors[name] = _errors(reader, drawn)
    return errors
