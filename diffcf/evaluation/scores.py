"""Every measure of one method on one set of images.

A :class:`FactualBatch` goes to the method, whose counterfactuals make a
:class:`CounterfactualBatch`; :class:`Scores` asks for them as the plan says, has them read by every
reader (:class:`diffcf.evaluation.readings.ReaderScores`) and compares them with exact images where
these can be drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from diffcf.causal import Intervention, Reader, row_keys
from diffcf.evaluation.metrics.acm import CounterfactualRates
from diffcf.evaluation.metrics.axioms import Composition, Reversibility
from diffcf.evaluation.metrics.fidelity import Change, Fidelity, Minimality, SequenceFidelity
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.evaluation.perceptual import Perceptual
from diffcf.evaluation.plan import FactualBatch, InterventionPlan
from diffcf.evaluation.readings import ReaderScores
from diffcf.evaluation.references import Truth
from diffcf.methods import Counterfactual, Method, World, predict_sequence

T = TypeVar("T")

_NO_ERROR = 1e-3  # ACM of a first step below which its growth over a sequence says nothing
# The image after one null intervention is the reconstruction, and is known by that name.
_RECONSTRUCTION = {"composition_psnr/1": "psnr/reconstruction"}


@dataclass
class CounterfactualBatch:
    """A method's counterfactuals of a batch, to measure further and to look at.

    Attributes:
        factual: the batch.
        single, exact: per intervened factor, the counterfactual and, where known, the exact images;
            of images that the plan does not ask, what a null intervention gives.
        sequence, sequence_do, sequence_exact: the same of each step, and what it set, for the first
            images of the set in the batch.
    """

    factual: FactualBatch
    single: dict[str, Counterfactual] = field(default_factory=dict)
    exact: dict[str, Tensor] = field(default_factory=dict)
    sequence: list[Counterfactual] = field(default_factory=list)
    sequence_do: list[Intervention] = field(default_factory=list)
    sequence_exact: list[Tensor] = field(default_factory=list)


MethodFor = Callable[[FactualBatch], Method]
"""The method for a batch: reference methods are given the image noise of its images."""


class Scores:
    """Accumulates over batches; :meth:`compute` gives numbers by name, :meth:`intervals` theirs.

    Every process has to call these two.

    Args:
        plan: the interventions, and the protocol they follow.
        truth: targets and exact images.
        readers: who reads the images, by the prefix of their results.
        perceptual: metrics by networks, as far as they are asked for and at hand.
        device: where metrics accumulate.
    """

    def __init__(
        self,
        plan: InterventionPlan,
        truth: Truth,
        readers: Mapping[str, Reader],
        perceptual: Perceptual = Perceptual(),  # noqa: B008 (immutable)
        device: torch.device | None = None,
    ) -> None:
        self.plan, self.truth, self.protocol = plan, truth, plan.protocol
        graph, protocol = plan.graph, plan.protocol
        asked = plan.asked(len(plan.factors))
        self.steps = protocol.steps if plan.asked(protocol.sequence_images) else 0
        self.cycles = protocol.cycles if protocol.cycle_images else 0
        self.readings = [
            ReaderScores(
                graph, reader, prefix, self.steps, plan.factors, plan.single, bool(plan.null.any())
            )
            for prefix, reader in readers.items()
        ]
        cycles = (1, self.cycles) if self.cycles > 1 else (1,)
        self.composition = Composition(cycles) if plan.null.any() else None
        drawn = truth.draws and asked
        self.fidelity = Fidelity(graph) if drawn else None
        self.minimality = Minimality(graph) if drawn else None
        self.change = Change(graph) if asked else None
        self.sequence = SequenceFidelity(self.steps) if drawn and self.steps else None
        undone = plan.asked(protocol.reverse_images)
        self.reversibility = Reversibility(graph) if undone else None
        random = truth.scene is not None and not truth.identified
        self.rates = CounterfactualRates(graph) if random and readers and asked else None
        self.pictured = plan.pictured()
        any_pictured = any(chosen.any() for chosen in self.pictured.values())
        self.quality = perceptual.quality() if any_pictured and perceptual.quality else None
        self.lpips = perceptual.lpips() if perceptual.lpips and drawn else None
        self.cld = perceptual.cld() if perceptual.cld and asked else None
        self.encode = perceptual.encode
        self.seconds = MeanMetric()
        others = (self.fidelity, self.sequence, self.minimality, self.change, self.reversibility)
        self.others = [metric for metric in (*others, self.rates, self.cld) if metric is not None]
        for holder in (self, *self.readings):
            for metric in vars(holder).values():
                if isinstance(metric, Metric):
                    metric.to(device)

    @torch.no_grad()
    def update(
        self, method: MethodFor, batch: FactualBatch, model: CounterfactualBatch | None = None
    ) -> CounterfactualBatch:
        """Ask everything the plan asks of these images; ``method`` is called with every batch.

        Where the true counterfactual is not known, the factors of ``model``'s counterfactuals are
        the targets; by default those of the method itself.
        """
        world, answers = self._abducted(method, batch), CounterfactualBatch(batch)
        self._null(world, batch)
        for name in self.plan.single:
            self._single(world, name, answers, model or answers)
            self._undo(method, batch, name, answers.single[name])
        self._cycles(method, batch)
        self._sequence(method, world, answers, model or answers)
        return answers

    def _abducted(self, method: MethodFor, batch: FactualBatch) -> World:
        # By row of the set, not by content: an image drawn again keeps the noise that it had.
        keys = row_keys(batch.index.to(batch.image.device), self.protocol.seed)
        return method(batch).abduct(batch.image, batch.factors, keys)

    def _null(self, world: World, batch: FactualBatch) -> None:
        """Set nothing, in the images of which that is asked."""
        chosen = self.plan.null[batch.index].to(batch.image.device)
        if self.composition is None or not chosen.any():
            return
        null = world.predict(Intervention.none(batch.factors))
        few = batch.where(chosen)
        self.composition.update(null.image[chosen], few.image, 1, few.index)
        for reading in self.readings:
            reading.null(null, batch, chosen)

    def _single(
        self, world: World, name: str, answers: CounterfactualBatch, model: CounterfactualBatch
    ) -> None:
        """Set one factor, and measure the counterfactual."""
        batch, column = answers.factual, self.plan.graph.column(name)
        do = batch.rows(self.plan.single[name])
        started = time.perf_counter()
        answer = answers.single[name] = world.predict(do)
        self.seconds.update((time.perf_counter() - started) / len(batch.index), len(batch.index))
        chosen = do.mask.any(dim=1)
        if not chosen.any():
            return
        target = self.truth.target(batch.factors, model.single[name])
        asked, few = batch.where(chosen), target[chosen]
        read = [r.single(answer, target, batch, column, chosen) for r in self.readings]
        probability = self.truth.probability(batch.factors, do)
        if self.rates is not None and probability is not None:
            values = do.values[chosen, column]
            self.rates.update(read[0], probability[chosen], values, column, asked.index)
        image = answer.image[chosen]
        if self.change is not None:
            self.change.update(image, asked.image, column, asked.index)
        if self.fidelity is not None and self.minimality is not None:
            exact = self.truth.exact(target, batch.index, answer.image.shape[-1])
            answers.exact[name], exact = exact, exact[chosen]
            self.fidelity.update(image, exact, column, asked.index)
            self.minimality.update(image, asked.image, exact, column, asked.index)
            if self.lpips is not None:
                self.lpips.update(image, exact)
        if self.cld is not None and self.encode is not None:
            latents = self.encode(image), self.encode(asked.image)
            self.cld.update(*latents, few, asked.factors, column, asked.index)
        if self.quality is not None and (drawn := self.pictured[name][asked.index]).any():
            index = asked.index[drawn] * len(self.plan.graph) + column
            self.quality.update(image[drawn.to(image.device)], index)

    def _undo(
        self, method: MethodFor, batch: FactualBatch, name: str, answer: Counterfactual
    ) -> None:
        """Set the factor back, starting from the counterfactual image alone."""
        chosen = batch.first(self.protocol.reverse_images) & answer.intervention.mask.any(dim=1)
        if self.reversibility is None or not chosen.any():
            return
        few, mask = batch.where(chosen), answer.intervention.mask[chosen]
        changed = FactualBatch(answer.image[chosen], answer.factors[chosen], few.index)
        back = Intervention(torch.where(mask, few.factors, 0.0), mask)
        undone = self._abducted(method, changed).predict(back)
        column = self.plan.graph.column(name)
        self.reversibility.update(undone.image, few.image, column, few.index)

    def _cycles(self, method: MethodFor, batch: FactualBatch) -> None:
        """Null interventions, each upon the image that the last one left."""
        chosen = batch.first(self.protocol.cycle_images)
        if self.composition is None or self.cycles < 2 or not chosen.any():
            return
        few = batch.where(chosen)
        last, nothing = few, Intervention.none(few.factors)
        for _ in range(self.cycles):
            last = replace(last, image=self._abducted(method, last).predict(nothing).image)
        self.composition.update(last.image, few.image, self.cycles, few.index)

    def _sequence(
        self,
        method: MethodFor,
        world: World,
        answers: CounterfactualBatch,
        model: CounterfactualBatch,
    ) -> None:
        """Interventions one after another, each step measured."""
        chosen = answers.factual.first(self.protocol.sequence_images)
        if not self.steps or not chosen.any():
            return
        few = answers.factual.where(chosen)
        if not chosen.all():
            world = self._abducted(method, few)
        answers.sequence_do = [few.rows(do) for do in self.plan.sequence]
        answers.sequence = predict_sequence(world, answers.sequence_do)
        for step, answer in enumerate(answers.sequence):
            target = self.truth.target(few.factors, model.sequence[step])
            do = answers.sequence_do[step]
            for reading in self.readings:
                reading.step(answer, target, do, step, few)
            if self.sequence is not None:
                exact = self.truth.exact(target, few.index, answer.image.shape[-1])
                answers.sequence_exact.append(exact)
                chosen = do.mask.any(dim=1)
                index = few.index[chosen.cpu()]
                self.sequence.update(answer.image[chosen], exact[chosen], step, index)

    def compute(self) -> dict[str, float]:
        """Numbers by name."""
        result = self._results(lambda metric: metric.compute())
        for prefix in (reading.prefix for reading in self.readings):
            first, last = (f"{prefix}acm/step_{step}" for step in (1, self.steps))
            if self.steps > 1 and last in result and result.get(first, 0.0) > _NO_ERROR:
                result[f"{prefix}acm/step_growth"] = result[last] / result[first]
        if self.quality is not None:
            result |= self.quality.compute()
        if self.lpips is not None:
            result["lpips"] = self.lpips.compute()
        if self.plan.single:
            result["seconds_per_counterfactual"] = self.seconds.compute()
        return {name: float(value) for name, value in result.items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images, of every mean."""
        return self._results(lambda metric: metric.intervals(resamples=self.protocol.resamples))

    def by_image(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of every mean, images' rows and own scores (:meth:`ImageMetric.by_image`)."""
        return self._results(lambda metric: metric.by_image())

    def _results(self, of: Callable[[ImageMetric], Mapping[str, T]]) -> dict[str, T]:
        """What ``of`` gives for each metric that is a mean over images, by name."""
        result: dict[str, T] = {}
        for reading in self.readings:
            result |= reading.results(of)
        if self.composition is not None:
            null = of(self.composition).items()
            result |= {_RECONSTRUCTION.get(key, key): value for key, value in null}
        for metric in self.others:
            result |= of(metric)
        return result
