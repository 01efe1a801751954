"""Measure a counterfactual engine: the one procedure behind callback and ablation.

For every image: the null intervention, one intervention on each factor, and one sequence. A scene
is the judge (:mod:`diffcf.ruler`); the method that returns the factual unchanged ("do nothing") is
scored beside it. Without a scene only the reconstruction can be measured, and pictures be drawn.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.image import PeakSignalNoiseRatio

from diffcf.counterfactual import Abducted, Counterfactual, CounterfactualEngine
from diffcf.graph import CausalGraph
from diffcf.intervention import Intervention
from diffcf.metrics import ACM, CounterfactualRates
from diffcf.protocol import InterventionPlan
from diffcf.ruler import Ruler, RulerScene

__all__ = ["CounterfactualEvaluation", "Example"]


class Example(NamedTuple):
    """Images ``[B, C, H, W]`` to look at, by intervention; ``exact`` is empty where unknown."""

    factual: Tensor
    counterfactual: dict[str, Tensor]
    exact: dict[str, Tensor]
    label: dict[str, list[str]]


class CounterfactualEvaluation:
    """Accumulates over batches; :meth:`compute` gives numbers by name.

    Args:
        graph: the causal graph.
        scene: true model, renderer and ruler; None where the world is not known.
        factors: ``[N, K]``, the factual factors of the whole set, from which values are drawn.
        steps: length of the sequences; 0 for none.
        seed: of the interventions.
        device: where metrics accumulate.
        noise: ``[N, M]``, the scene's image noise of the whole set, if known.
    """

    def __init__(
        self,
        graph: CausalGraph,
        scene: RulerScene | None,
        factors: Tensor,
        steps: int = 5,
        seed: int = 0,
        device: torch.device | None = None,
        noise: Tensor | None = None,
    ) -> None:
        self.graph = graph
        self.ruler = Ruler(scene, noise) if scene is not None else None
        self.steps = steps if self.ruler is not None else 0
        certain = scene if scene is not None and scene.identified else None
        scm, visible = (certain.counterfactual, certain.visible) if certain else (None, None)
        self.plan = InterventionPlan(graph, factors.cpu(), scm, visible, self.steps, seed)
        self.acm, self.nothing = ACM(graph).to(device), ACM(graph).to(device)
        self.sequence = ACM(graph, steps=max(1, steps)).to(device)
        self.sequence_nothing = ACM(graph, steps=max(1, steps)).to(device)
        self.rates = CounterfactualRates(graph).to(device)
        drawn = graph.names if self.ruler is not None and self.ruler.draws else ()
        self.psnr = {name: _psnr().to(device) for name in ("reconstruction", *drawn)}
        self.null = ACM(graph).to(device)
        self.seconds = MeanMetric().to(device)
        self.images = 0
        self.traces: dict[str, list[tuple[float, float]]] = {}

    @torch.no_grad()
    def update(self, engine: CounterfactualEngine, image: Tensor, index: Tensor) -> Example:
        """Measure a batch ``[B, C, H, W]`` whose rows in the set are ``index`` ``[B]``."""
        index = index.cpu()
        factors = self.plan.factors[index].to(image.device)
        abducted = engine.abduct(image, factors)
        self._null(abducted, factors)
        unchanged = self.ruler.read(image) if self.ruler is not None else image
        exact: dict[str, Tensor] = {}
        answers, labels = {}, {}
        for column, name in enumerate(self.graph.names):
            intervention = _rows(self.plan.single[name], index, image.device)
            started = time.perf_counter()
            answer = abducted.predict(intervention)
            self.seconds.update((time.perf_counter() - started) / len(image), len(image))
            answers[name] = answer.image
            self._trace(name, answer)
            if self.ruler is not None:
                exact |= self._single(self.ruler, answer, unchanged, factors, column, index)
            text, values = self.graph.factors[column].text, intervention.values[:, column]
            labels[name] = [f"do({name} = {text(value)})" for value in values.tolist()]
        if self.ruler is not None and self.steps:
            self._sequence(self.ruler, engine, image, unchanged, factors, index)
        self.images += len(image)
        return Example(image, answers, exact, labels)

    def compute(self) -> dict[str, float]:
        """Numbers by name. All PSNRs are means over images of each image's PSNR, in dB.

        ``accuracy/<name>``, of discrete factors, is the share of images in which the factor reads
        as it was set.
        """
        result = self._judged(self.ruler) if self.ruler is not None else {}
        psnr = {name: metric.compute() for name, metric in self.psnr.items()}
        result["psnr/reconstruction"] = psnr.pop("reconstruction")
        result |= {f"psnr/{name}": value for name, value in psnr.items()}
        for group, names in (("roots", self.graph.roots), ("leaves", self.graph.leaves)):
            if psnr and names:
                result[f"psnr/{group}"] = torch.stack([psnr[n] for n in names]).mean()
        result["seconds_per_counterfactual"] = self.seconds.compute()
        return {name: float(value) for name, value in result.items()}

    # --- parts ---

    def _judged(self, ruler: Ruler) -> dict[str, Tensor]:
        result = dict(self.acm.compute())
        result |= {f"do_nothing/{k}": v for k, v in self.nothing.compute().items()}
        for factor in self.graph.factors:
            if factor.kind != "continuous":
                result[f"accuracy/{factor.name}"] = 1 - result[f"acm/{factor.name}/{factor.name}"]
        if not ruler.scene.identified:
            result |= self.rates.compute()
        result["acm/null"] = self.null.compute()["acm"]
        if self.steps:
            for prefix, metric in (("", self.sequence), ("do_nothing/", self.sequence_nothing)):
                steps = {k: v for k, v in metric.compute().items() if k.startswith("acm/step_")}
                result |= {f"{prefix}{k}": v for k, v in steps.items()}
            if self.steps > 1:
                growth = result[f"acm/step_{self.steps}"] / result["acm/step_1"]
                result["acm/step_growth"] = growth
        return result

    def _null(self, abducted: Abducted, factors: Tensor) -> None:
        answer = abducted.predict(Intervention.none(factors))
        self.psnr["reconstruction"].update(answer.image, abducted.image)
        if self.ruler is not None:
            column = torch.zeros(len(factors), dtype=torch.long, device=factors.device)
            self.null.update(self.ruler.read(answer.image), factors, column)

    def _single(
        self,
        ruler: Ruler,
        answer: Counterfactual,
        unchanged: Tensor,
        factors: Tensor,
        column: int,
        index: Tensor,
    ) -> dict[str, Tensor]:
        """Judge one intervention per image; the exact images by the factor's name, if known.

        ``unchanged`` ``[B, K]`` is what the ruler reads off the factual images.
        """
        do, name = answer.intervention, self.graph.names[column]
        target, read = ruler.target(factors, answer), ruler.read(answer.image)
        which = torch.full((len(read),), column, device=read.device)
        self.acm.update(read, target, which)
        self.nothing.update(unchanged, target, which)
        probability = ruler.probability(factors, do)
        if probability is not None:
            self.rates.update(read, probability, do.values[:, column], column)
        if not ruler.draws:
            return {}
        exact = ruler.exact(target, index, answer.image.shape[-1])
        self.psnr[name].update(answer.image, exact)
        return {name: exact}

    def _sequence(
        self,
        ruler: Ruler,
        engine: CounterfactualEngine,
        image: Tensor,
        unchanged: Tensor,
        factors: Tensor,
        index: Tensor,
    ) -> None:
        steps = [_rows(do, index, image.device) for do in self.plan.sequence]
        for step, answer in enumerate(engine.sequence(image, steps, factors)):
            target = ruler.target(factors, answer)
            which = steps[step].mask.float().argmax(dim=1)
            self.sequence.update(ruler.read(answer.image), target, which, step)
            self.sequence_nothing.update(unchanged, target, which, step)

    def _trace(self, name: str, answer: Counterfactual) -> None:
        if answer.trace and name not in self.traces:
            self.traces[name] = [(float(t), float(s.median())) for t, s in answer.trace]


def _psnr() -> PeakSignalNoiseRatio:
    return PeakSignalNoiseRatio(data_range=(-1.0, 1.0), dim=(1, 2, 3), reduction="elementwise_mean")


def _rows(intervention: Intervention, index: Tensor, device: torch.device) -> Intervention:
    return Intervention(intervention.values[index].to(device), intervention.mask[index].to(device))
