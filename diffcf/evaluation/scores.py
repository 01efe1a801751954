"""Every measure of one method on one set: what it answers, judged by readers and exact images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from diffcf.causal import Intervention, Reader
from diffcf.evaluation.answers import Answered, FactualBatch
from diffcf.evaluation.metrics.acm import CounterfactualRates
from diffcf.evaluation.metrics.axioms import Composition, Reversibility
from diffcf.evaluation.metrics.fidelity import Fidelity, Minimality, SequenceFidelity
from diffcf.evaluation.oracle import Truth
from diffcf.evaluation.perceptual import Perceptual
from diffcf.evaluation.protocol import InterventionPlan
from diffcf.evaluation.readings import Part, ReadingScores
from diffcf.methods import Counterfactual, CounterfactualMethod, World, predict_sequence

MethodFor = Callable[[FactualBatch], CounterfactualMethod]
"""The method for a batch: references know the image noise of theirs."""

# ACM of a first step below which its growth over a sequence says nothing.
_NO_ERROR = 1e-3
# The image after one null intervention is the reconstruction, and is known by that name.
_RECONSTRUCTION = {"composition_psnr/1": "psnr/reconstruction"}


class Scores:
    """Accumulates over batches; :meth:`compute` gives numbers by name, :meth:`intervals` theirs.

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
        self.steps = protocol.steps if protocol.sequence_images else 0
        self.cycles = protocol.cycles if protocol.cycle_images else 0
        self.readings = [ReadingScores(graph, r, p, self.steps) for p, r in readers.items()]
        self.composition = Composition((1, self.cycles) if self.cycles > 1 else (1,))
        self.fidelity = Fidelity(graph) if truth.draws else None
        self.minimality = Minimality(graph) if truth.draws else None
        follows = truth.draws and self.steps > 0
        self.sequence = SequenceFidelity(self.steps) if follows else None
        self.reversibility = Reversibility(graph) if protocol.reverse_images else None
        chance = truth.scene is not None and not truth.identified
        self.rates = CounterfactualRates(graph) if chance and readers else None
        self.quality = perceptual.quality() if perceptual.quality is not None else None
        lpips = perceptual.lpips if truth.draws else None
        self.lpips = lpips() if lpips is not None else None
        self.cld = perceptual.cld() if perceptual.cld is not None else None
        self.encode = perceptual.encode
        self.seconds = MeanMetric()
        whole = (self.quality, self.lpips, self.seconds)
        for metric in (*(part.metric for part in self.parts()), *whole):
            if metric is not None:
                metric.to(device)

    # --- measuring ---

    @torch.no_grad()
    def update(
        self, method: MethodFor, batch: FactualBatch, model: Answered | None = None
    ) -> Answered:
        """Ask everything the plan asks of these images; ``method`` is called with every batch.

        Where the true counterfactual is not known, the factors that ``model`` answered are the
        targets; by default those that the method itself answers.
        """
        world, answered = _world(method, batch), Answered(batch)
        null = world.predict(Intervention.none(batch.factors))
        self.composition.update(null.image, batch.image, 1, batch.index)
        for reading in self.readings:
            reading.null(null, batch)
        for name in self.plan.single:
            self._single(method, world, answered, name, model)
        self._cycles(method, batch)
        self._sequence(method, world, answered, model)
        return answered

    def _single(
        self,
        method: MethodFor,
        world: World,
        answered: Answered,
        name: str,
        model: Answered | None,
    ) -> None:
        batch, column = answered.batch, self.plan.graph.column(name)
        do = batch.rows(self.plan.single[name])
        started = time.perf_counter()
        answer = answered.single[name] = world.predict(do)
        self.seconds.update((time.perf_counter() - started) / len(batch.index), len(batch.index))
        target = self.truth.target(batch.factors, model.single[name] if model else answer)
        for reading in self.readings:
            read = reading.single(answer, target, batch, column)
            probability = self.truth.probability(batch.factors, do)
            if self.rates is not None and probability is not None and reading is self.readings[0]:
                self.rates.update(read, probability, do.values[:, column], column, batch.index)
        if self.fidelity is not None and self.minimality is not None:
            exact = self.truth.exact(target, batch.index, answer.image.shape[-1])
            answered.exact[name] = exact
            self.fidelity.update(answer.image, exact, column, batch.index)
            self.minimality.update(answer.image, batch.image, exact, column, batch.index)
            if self.lpips is not None:
                self.lpips.update(answer.image, exact)
        if self.cld is not None and self.encode is not None:
            latents = self.encode(answer.image), self.encode(batch.image)
            self.cld.update(*latents, target, batch.factors, column, batch.index)
        self._sample(answer, batch, column)
        self._undo(method, batch, column, answer)

    def _sample(self, answer: Counterfactual, batch: FactualBatch, column: int) -> None:
        """Counterfactual images of the first rows of the set, as many as FID is to be taken of."""
        factors = len(self.plan.graph)
        chosen = self._first(batch, -(-self.protocol.fid_images // len(self.plan.single)))
        if self.quality is not None and chosen.any():
            index = batch.index[chosen.cpu()] * factors + column
            self.quality.update(answer.image[chosen], index)

    def _undo(
        self, method: MethodFor, batch: FactualBatch, column: int, answer: Counterfactual
    ) -> None:
        """Set the factor back, starting from the counterfactual image alone."""
        chosen = self._first(batch, self.protocol.reverse_images)
        if self.reversibility is None or not chosen.any():
            return
        few, mask = batch.where(chosen), answer.intervention.mask[chosen]
        seen = FactualBatch(answer.image[chosen], answer.factors[chosen], few.index)
        undone = _world(method, seen).predict(
            Intervention(torch.where(mask, few.factors, 0.0), mask)
        )
        self.reversibility.update(undone.image, few.image, column, few.index)

    def _cycles(self, method: MethodFor, batch: FactualBatch) -> None:
        """Null interventions, each upon the image that the last one left."""
        chosen = self._first(batch, self.protocol.cycle_images)
        if self.cycles < 2 or not chosen.any():
            return
        few = batch.where(chosen)
        last, nothing = few, Intervention.none(few.factors)
        for _ in range(self.cycles):
            last = replace(last, image=_world(method, last).predict(nothing).image)
        self.composition.update(last.image, few.image, self.cycles, few.index)

    def _sequence(
        self,
        method: MethodFor,
        world: World,
        answered: Answered,
        model: Answered | None,
    ) -> None:
        chosen = self._first(answered.batch, self.protocol.sequence_images)
        if not self.steps or not chosen.any():
            return
        few = answered.batch.where(chosen)
        if not chosen.all():
            world = _world(method, few)
        steps = [few.rows(do) for do in self.plan.sequence]
        for step, answer in enumerate(predict_sequence(world, steps)):
            target = self.truth.target(few.factors, model.sequence[step] if model else answer)
            which = steps[step].mask.float().argmax(dim=1)
            for reading in self.readings:
                reading.step(answer, target, which, step, few)
            answered.sequence.append(answer)
            answered.sequence_do.append(steps[step])
            if self.truth.draws:
                exact = self.truth.exact(target, few.index, answer.image.shape[-1])
                answered.sequence_exact.append(exact)
                if self.sequence is not None:
                    self.sequence.update(answer.image, exact, step, few.index)

    @staticmethod
    def _first(batch: FactualBatch, count: int) -> Tensor:
        """``[B]`` bool: which images are among the first ``count`` of the set."""
        # By row of the set, not by count, so that every process knows its share.
        return (batch.index < count).to(batch.image.device)

    # --- results; every process has to call them ---

    def compute(self) -> dict[str, float]:
        """Numbers by name."""
        result: dict[str, Tensor] = {}
        for part in self.parts():
            result |= part.named(part.metric.compute())
        for prefix in (reading.prefix for reading in self.readings):
            first, last = (f"{prefix}acm/step_{step}" for step in (1, self.steps))
            if self.steps > 1 and result[first] > _NO_ERROR:
                result[f"{prefix}acm/step_growth"] = result[last] / result[first]
        if self.quality is not None:
            result |= self.quality.compute()
        if self.lpips is not None:
            result["lpips"] = self.lpips.compute()
        result["seconds_per_counterfactual"] = self.seconds.compute()
        return {name: float(value) for name, value in result.items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images, of every mean."""
        result: dict[str, tuple[float, float]] = {}
        for part in self.parts():
            result |= part.named(part.metric.intervals(resamples=self.protocol.resamples))
        return result

    def parts(self) -> list[Part]:
        """Every metric that is a mean over images."""
        whole = (
            self.fidelity,
            self.sequence,
            self.minimality,
            self.reversibility,
            self.rates,
            self.cld,
        )
        read = [part for reading in self.readings for part in reading.parts()]
        null = Part(self.composition, lambda key: _RECONSTRUCTION.get(key, key))
        return [*read, null, *(Part(metric) for metric in whole if metric is not None)]


def _world(method: MethodFor, batch: FactualBatch) -> World:
    return method(batch).abduct(batch.image, batch.factors)
