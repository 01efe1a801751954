"""What one reader reads off a method's counterfactual images: ACM, effectiveness, sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffcf.causal import CausalGraph, Reader
from diffcf.evaluation.answers import FactualBatch
from diffcf.evaluation.metrics.acm import ACM
from diffcf.evaluation.metrics.disentanglement import DCI, IRS
from diffcf.evaluation.metrics.effectiveness import Effectiveness
from diffcf.evaluation.metrics.graph_distance import (
    edge_f1,
    learned_adjacency,
    structural_hamming_distance,
)
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.methods import Counterfactual

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A metric, and what its results are called; a result named None is left out."""

    metric: ImageMetric
    name: Callable[[str], str | None] = lambda key: key

    def named(self, results: Mapping[str, T]) -> dict[str, T]:
        renamed = ((self.name(key), value) for key, value in results.items())
        return {key: value for key, value in renamed if key is not None}


class ReadingScores:
    """The measures of one method that depend on one reader.

    Args:
        graph: the factors.
        reader: reads images.
        prefix: of the results' names.
        steps: length of the sequences; 0 for none.
    """

    def __init__(self, graph: CausalGraph, reader: Reader, prefix: str, steps: int) -> None:
        self.reader, self.prefix = reader, prefix
        self.acm, self.effectiveness = ACM(graph), Effectiveness(graph)
        self.null_acm = ACM(graph)
        self.steps_acm = ACM(graph, steps=steps) if steps else None
        self._unchanged: tuple[Tensor, Tensor] | None = None

    def null(self, answer: Counterfactual, batch: FactualBatch) -> None:
        """Judge the answer to no intervention."""
        column = torch.zeros(len(batch.index), dtype=torch.long, device=batch.factors.device)
        self.null_acm.update(self._read(answer, batch), batch.factors, column, 0, batch.index)

    def single(
        self, answer: Counterfactual, target: Tensor, batch: FactualBatch, column: int
    ) -> Tensor:
        """Judge the answers to one intervention per image; what was read, ``[B, K]``."""
        read = self._read(answer, batch)
        which = torch.full((len(read),), column, device=read.device)
        self.acm.update(read, target, which, 0, batch.index)
        self.effectiveness.update(read, target, column, batch.index)
        return read

    def step(
        self, answer: Counterfactual, target: Tensor, which: Tensor, step: int, batch: FactualBatch
    ) -> None:
        """Judge a step of a sequence that sets factor ``which`` ``[B]``."""
        assert self.steps_acm is not None
        self.steps_acm.update(self._read(answer, batch), target, which, step, batch.index)

    def parts(self) -> list[Part]:
        """The metrics, named."""
        prefix = self.prefix

        def null(key: str) -> str | None:
            return f"{prefix}acm/null" if key == "acm" else None

        def step(key: str) -> str | None:
            return f"{prefix}{key}" if key.startswith("acm/step_") else None

        named = [
            Part(self.acm, lambda key: prefix + key),
            Part(self.effectiveness, lambda key: prefix + key),
            Part(self.null_acm, null),
        ]
        return named + ([Part(self.steps_acm, step)] if self.steps_acm is not None else [])

    def _read(self, answer: Counterfactual, batch: FactualBatch) -> Tensor:
        """Factors ``[B, K]`` off the answer; off an unchanged image once only."""
        if answer.image is not batch.image:
            return self.reader.read(answer.image)
        if self._unchanged is None or self._unchanged[0] is not batch.image:
            self._unchanged = (batch.image, self.reader.read(batch.image))
        return self._unchanged[1]


class ModelReadout:
    """DCI and IRS of what a method reads off clean images; distance of a learned graph.

    Args:
        model: a :class:`diffcf.methods.base.CounterfactualModule`. Nothing is measured of
            one that reads nothing and learns no graph.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.graph
        kinds = {"DCI": DCI, "IRS": IRS} if model.reads else {}
        self.metrics = {name: kind(self.graph) for name, kind in kinds.items()}
        for metric in self.metrics.values():
            metric.to(model.device)

    @torch.no_grad()
    def update(self, image: Tensor, factors: Tensor, index: Tensor) -> None:
        """Read images ``[B, C, H, W]`` of known factors ``[B, K]``."""
        if not self.metrics:
            return
        # one number for each factor: as one-hot columns a category would be spread over codes
        code = self.graph.decode(self.model.read(image), hard=False)
        for metric in self.metrics.values():
            metric.update(code, factors, index)

    def compute(self) -> dict[str, float]:
        """Results by name; every process has to call it."""
        result: dict[str, float] = {}
        for name, metric in self.metrics.items():
            try:
                values = metric.compute()
            except ValueError as error:
                # Too few images, or a factor that does not vary in them: a property of the set
                # that was tested, which must not cost the user the rest of the test.
                rank_zero_info(f"{name} is left out: {error}")
                continue
            result |= {key: float(value) for key, value in values.items()}
        nscm = getattr(self.model, "nscm", None)
        learned = learned_adjacency(nscm) if nscm is not None else None
        if learned is not None:
            true = self.graph.adjacency
            result["graph/shd"] = float(structural_hamming_distance(learned.cpu(), true))
            result["graph/edge_f1"] = edge_f1(learned.cpu(), true)
        return result
