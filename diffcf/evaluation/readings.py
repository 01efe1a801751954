"""Every measure of what one reader reads off one method's counterfactual images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Intervention, Reader
from diffcf.evaluation.metrics.acm import ACM
from diffcf.evaluation.metrics.axioms import Effectiveness
from diffcf.evaluation.metrics.identity import Identity
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.evaluation.metrics.kept import Kept
from diffcf.evaluation.metrics.overlap import OverlapEffectiveness
from diffcf.evaluation.plan import FactualBatch
from diffcf.methods import Counterfactual

T = TypeVar("T")


class ReadingError(ImageMetric):
    """Mean absolute error, in units of a factor's range, of what is read off the images themselves:
    ``reading/<factor>``, and their mean ``reading``."""

    higher_is_better = False

    def __init__(self, graph: CausalGraph) -> None:
        super().__init__(1, len(graph))
        self.graph = graph

    def update(self, read: Tensor, factors: Tensor, index: Tensor | None = None) -> None:
        """Add readings and the factors of the images, ``[B, K]`` each."""
        self._add((read - factors).abs(), 0, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        columns = zip(self.graph.names, means[:, 0].unbind(1), strict=True)
        return {
            "reading": means[:, 0].mean(dim=1),
            **{f"reading/{name}": column for name, column in columns},
        }


@runtime_checkable
class FeatureReader(Reader, Protocol):
    """A reader that also has ``feature_count`` features of an image; 0 for none."""

    feature_count: int

    def features(self, images: Tensor) -> Tensor:
        """``[B, feature_count]`` of images ``[B, C, H, W]`` in [-1, 1]."""


class ReaderScores:
    """What one reader reads off counterfactual images: ACM, effectiveness, what is kept, sequences.

    Where the reader has features of a whole image, how near a counterfactual is in them to its
    factual too. Names of results start with ``prefix``; sequences have ``steps`` steps, 0 for none.
    ``labels`` ``[N, K]`` are those of the whole set; ``asked`` names the factors that are set in
    any image; ``null`` says whether any undergoes the null intervention.
    """

    def __init__(
        self,
        graph: CausalGraph,
        reader: Reader,
        prefix: str,
        steps: int,
        labels: Tensor,
        asked: Iterable[str],
        null: bool = True,
    ) -> None:
        self.reader, self.prefix = reader, prefix
        columns = [graph.column(name) for name in asked]
        self.asked = bool(columns)
        self.acm, self.effectiveness = ACM(graph), Effectiveness(graph)
        discrete = any(not graph.factors[k].continuous for k in columns)
        self.overlap = OverlapEffectiveness(graph, labels) if discrete else None
        # Where everything else is an effect of what is set, nothing has to be kept.
        self.kept = None if graph.reach[columns].all() else Kept(graph)
        self.features = reader if isinstance(reader, FeatureReader) else None
        count = self.features.feature_count if self.features else 0
        self.identity = Identity(graph, count) if count else None
        self.null_acm = ACM(graph) if null else None
        self.steps_acm = ACM(graph, steps) if steps else None
        self._unchanged: tuple[Tensor, Tensor] | None = None

    def null(self, answer: Counterfactual, batch: FactualBatch, chosen: Tensor) -> None:
        """Add counterfactuals of the null intervention, those that ``chosen`` ``[B]`` marks."""
        assert self.null_acm is not None
        read, factors = self._read(answer, batch)[chosen], batch.factors[chosen]
        column = torch.zeros(len(read), dtype=torch.long, device=read.device)
        self.null_acm.update(read, factors, column, 0, batch.index[chosen.cpu()])

    def single(
        self,
        answer: Counterfactual,
        target: Tensor,
        batch: FactualBatch,
        column: int,
        chosen: Tensor,
    ) -> Tensor:
        """Add counterfactuals in which ``column`` was set, those that ``chosen`` ``[B]`` marks.

        Returns what was read of these, ``[b, K]``.
        """
        read, target = self._read(answer, batch)[chosen], target[chosen]
        which = torch.full((len(read),), column, device=read.device)
        index = batch.index[chosen.cpu()]
        self.acm.update(read, target, which, 0, index)
        self.effectiveness.update(read, target, column, index)
        if self.overlap is not None:
            self.overlap.update(read, target, column, index)
        if self.kept is not None:
            self.kept.update(read, self._factual(batch)[chosen], column, index)
        if self.identity is not None and self.features is not None:
            pair = torch.cat([answer.image[chosen], batch.image[chosen]])
            features, own = self.features.features(pair).chunk(2)
            self.identity.update(features, own, column, index)
        return read

    def step(
        self,
        answer: Counterfactual,
        target: Tensor,
        do: Intervention,
        step: int,
        batch: FactualBatch,
    ) -> None:
        """Add a step of a sequence; ``do`` sets one factor in each image, or none."""
        assert self.steps_acm is not None
        chosen, which = do.mask.any(dim=1), do.mask.float().argmax(dim=1)
        read, index = self._read(answer, batch)[chosen], batch.index[chosen.cpu()]
        self.steps_acm.update(read, target[chosen], which[chosen], step, index)

    def results(self, of: Callable[[ImageMetric], Mapping[str, T]]) -> dict[str, T]:
        """What ``of`` gives for each metric, by name."""
        every = self.acm, self.effectiveness, self.overlap, self.kept, self.identity
        metrics = every if self.asked else ()
        asked = [metric for metric in metrics if metric is not None]
        result = {name: value for metric in asked for name, value in of(metric).items()}
        null = of(self.null_acm) if self.null_acm is not None else {}
        if "acm" in null:
            result["acm/null"] = null["acm"]
        if self.steps_acm is not None:
            steps = of(self.steps_acm).items()
            result |= {key: value for key, value in steps if key.startswith("acm/step_")}
        return {self.prefix + key: value for key, value in result.items()}

    def _read(self, answer: Counterfactual, batch: FactualBatch) -> Tensor:
        """Factors ``[B, K]`` of the answer."""
        same = answer.image is batch.image
        return self._factual(batch) if same else self.reader.read(answer.image)

    def _factual(self, batch: FactualBatch) -> Tensor:
        """Factors ``[B, K]`` of the factual, which is read only once."""
        if self._unchanged is None or self._unchanged[0] is not batch.image:
            self._unchanged = (batch.image, self.reader.read(batch.image))
        return self._unchanged[1]
