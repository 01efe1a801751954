"""Measure a counterfactual engine on a scene: the one procedure behind callback and ablation.

For every image: the null intervention, one intervention on each factor, and one sequence. Factors
are read by the scene's ruler, never by the projector that guides; targets are the scene's true
counterfactual factors; the exact counterfactual image is the scene's render of them. The method
that returns the factual unchanged ("do nothing") is scored beside it.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.image import PeakSignalNoiseRatio

from diffcf.counterfactual import Abducted, Counterfactual, CounterfactualEngine
from diffcf.graph import CausalGraph
from diffcf.intervention import Intervention
from diffcf.metrics import ACM
from diffcf.protocol import InterventionPlan

__all__ = ["CounterfactualEvaluation", "Example", "RulerScene"]


class RulerScene(Protocol):
    """What an evaluation needs of a scene; see :class:`data_modules.scenes.base.Scene`."""

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor: ...

    def render(self, factors: Tensor, image_size: int) -> Tensor: ...

    def read(self, images: Tensor) -> Tensor: ...

    def visible(self, factors: Tensor) -> Tensor: ...


class Example(NamedTuple):
    """Images ``[B, C, H, W]`` to look at: one row per intervention name."""

    factual: Tensor
    counterfactual: dict[str, Tensor]
    exact: dict[str, Tensor]
    label: dict[str, list[str]]


class CounterfactualEvaluation:
    """Accumulates over batches; :meth:`compute` gives numbers by name.

    Args:
        graph: the causal graph.
        scene: true model, renderer and ruler.
        factors: ``[N, K]``, the factual factors of the whole set, from which values are drawn.
        steps: length of the sequences; 0 for none.
        seed: of the interventions.
    """

    def __init__(
        self,
        graph: CausalGraph,
        scene: RulerScene,
        factors: Tensor,
        steps: int = 5,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.graph, self.scene, self.steps = graph, scene, steps
        self.plan = InterventionPlan(
            graph, factors.cpu(), scene.counterfactual, scene.visible, steps, seed
        )
        self.acm, self.nothing = ACM(graph).to(device), ACM(graph).to(device)
        self.sequence = ACM(graph, steps=max(1, steps)).to(device)
        self.sequence_nothing = ACM(graph, steps=max(1, steps)).to(device)
        self.psnr = {name: _psnr().to(device) for name in ("reconstruction", *graph.names)}
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
        exact, answers, labels = {}, {}, {}
        for column, name in enumerate(self.graph.names):
            intervention = _rows(self.plan.single[name], index, image.device)
            started = time.perf_counter()
            answer = abducted.predict(intervention)
            self.seconds.update((time.perf_counter() - started) / len(image), len(image))
            exact[name] = self._single(answer, image, factors, column)
            answers[name] = answer.image
            self._trace(name, answer)
            native = self.graph.to_native(intervention.values)[:, column]
            labels[name] = [f"do({name} = {value:.2f})" for value in native.tolist()]
        if self.steps:
            self._sequence(engine, image, factors, index)
        self.images += len(image)
        return Example(image, answers, exact, labels)

    def compute(self) -> dict[str, float]:
        """Numbers by name. All PSNRs are means over images of each image's PSNR, in dB."""
        result = dict(self.acm.compute())
        result |= {f"do_nothing/{k}": v for k, v in self.nothing.compute().items()}
        psnr = {name: metric.compute() for name, metric in self.psnr.items()}
        result["psnr/reconstruction"] = psnr.pop("reconstruction")
        result |= {f"psnr/{name}": value for name, value in psnr.items()}
        for group, names in (("roots", self.graph.roots), ("leaves", self.graph.leaves)):
            if names:
                result[f"psnr/{group}"] = torch.stack([psnr[n] for n in names]).mean()
        result["acm/null"] = self.null.compute()["acm"]
        if self.steps:
            for prefix, metric in (("", self.sequence), ("do_nothing/", self.sequence_nothing)):
                steps = {k: v for k, v in metric.compute().items() if k.startswith("acm/step_")}
                result |= {f"{prefix}{k}": v for k, v in steps.items()}
            if self.steps > 1:
                growth = result[f"acm/step_{self.steps}"] / result["acm/step_1"]
                result["acm/step_growth"] = growth
        result["seconds_per_counterfactual"] = self.seconds.compute()
        return {name: float(value) for name, value in result.items()}

    # --- parts ---

    def _null(self, abducted: Abducted, factors: Tensor) -> None:
        answer = abducted.predict(Intervention.none(factors))
        self.psnr["reconstruction"].update(answer.image, abducted.image)
        column = torch.zeros(len(factors), dtype=torch.long, device=factors.device)
        self.null.update(self.scene.read(answer.image), factors, column)

    def _single(
        self, answer: Counterfactual, image: Tensor, factors: Tensor, column: int
    ) -> Tensor:
        do = answer.intervention
        target = self.scene.counterfactual(factors, do.values, do.mask)
        which = torch.full((len(image),), column, device=image.device)
        self.acm.update(self.scene.read(answer.image), target, which)
        self.nothing.update(self.scene.read(image), target, which)
        exact = self.scene.render(target, image.shape[-1])
        self.psnr[self.graph.names[column]].update(answer.image, exact)
        return exact

    def _sequence(
        self, engine: CounterfactualEngine, image: Tensor, factors: Tensor, index: Tensor
    ) -> None:
        steps = [_rows(do, index, image.device) for do in self.plan.sequence]
        unchanged = self.scene.read(image)
        for step, answer in enumerate(engine.sequence(image, steps, factors)):
            held = answer.intervention
            target = self.scene.counterfactual(factors, held.values, held.mask)
            which = steps[step].mask.float().argmax(dim=1)
            self.sequence.update(self.scene.read(answer.image), target, which, step)
            self.sequence_nothing.update(unchanged, target, which, step)

    def _trace(self, name: str, answer: Counterfactual) -> None:
        if answer.trace and name not in self.traces:
            self.traces[name] = [(float(t), float(s.median())) for t, s in answer.trace]


def _psnr() -> PeakSignalNoiseRatio:
    return PeakSignalNoiseRatio(data_range=(-1.0, 1.0), dim=(1, 2, 3), reduction="elementwise_mean")


def _rows(intervention: Intervention, index: Tensor, device: torch.device) -> Intervention:
    return Intervention(intervention.values[index].to(device), intervention.mask[index].to(device))
