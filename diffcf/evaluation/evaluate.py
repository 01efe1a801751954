"""Measure a method: the one procedure behind callback, ablation and benchmark.

For every image: the null intervention and one intervention on each factor; for some of them
sequences, repeated null interventions and the undoing of each intervention
(:class:`diffcf.evaluation.protocol.Protocol`). Reference methods (:mod:`diffcf.evaluation.references`) meet the
same images and interventions, and their scores stand beside: what a perfect method scores, what
doing nothing scores, and what changing everything scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Reader, Scene
from diffcf.evaluation.answers import Answered, FactualBatch, Strength
from diffcf.evaluation.oracle import Truth
from diffcf.evaluation.perceptual import Perceptual
from diffcf.evaluation.protocol import InterventionPlan, Protocol
from diffcf.evaluation.references import ChangeEverything, DoNothing, ExactMethod
from diffcf.evaluation.scores import Scores
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualMethod


class CounterfactualEvaluation:
    """Accumulates over batches; :meth:`compute` gives numbers by name.

    Results of the first reader at hand have plain names (``acm/light``), those of the second start
    with ``evaluator/``, those of a reference method with its name (``do_nothing/acm/light``).

    Args:
        graph: the causal graph.
        factors: ``[N, K]``, the factual factors of the whole set.
        protocol: what is asked.
        scene: true model, renderer and ruler; None where the world is not known.
        noise: ``[N, M]``, the scene's image noise of the whole set, if known.
        evaluator: an independent network that reads images; None where there is none.
        perceptual: FID and LPIPS, as far as they are asked for and at hand.
        device: where metrics accumulate.

    Raises:
        SettingsError: when the protocol asks for readers only of which none is at hand.
    """

    def __init__(
        self,
        graph: CausalGraph,
        factors: Tensor,
        protocol: Protocol,
        scene: Scene | None = None,
        noise: Tensor | None = None,
        evaluator: Reader | None = None,
        perceptual: Perceptual = Perceptual(),  # noqa: B008 (immutable)
        device: torch.device | None = None,
    ) -> None:
        self.graph, self.protocol = graph, protocol
        self.truth = Truth(scene, noise)
        self.readers = _readers(protocol, scene, evaluator)
        world = scene if self.truth.identified else None
        scm, visible = (world.counterfactual, world.visible) if world else (None, None)
        self.plan = InterventionPlan(graph, factors.cpu(), protocol, scm, visible)
        prefixed = {
            "" if place == 0 else f"{name}/": reader
            for place, (name, reader) in enumerate(self.readers.items())
        }
        names = ["", *self._references()]
        self.scores = {
            name: Scores(self.plan, self.truth, prefixed, perceptual, device) for name in names
        }
        self.traces: dict[str, list[Strength]] = {}

    @torch.no_grad()
    def update(self, method: CounterfactualMethod, image: Tensor, index: Tensor) -> Answered:
        """Measure a batch ``[B, C, H, W]`` whose rows in the set are ``index`` ``[B]``."""
        index = index.cpu()
        batch = FactualBatch(image, self.plan.factors[index].to(image.device), index)
        answered = self.scores[""].update(lambda _: method, batch)
        for name, scores in self.scores.items():
            if name:
                scores.update(partial(self._reference, name), batch, answered)
        for name, answer in answered.single.items():
            if answer.trace and name not in self.traces:
                self.traces[name] = [Strength.of(t, s) for t, s in answer.trace]
        return answered

    def images(self) -> int:
        """How many images were measured; every process has to call it."""
        _, _, index = self.scores[""].composition.gathered()
        return len(index.unique())

    def compute(self) -> dict[str, float]:
        """Numbers by name; every process has to call it. PSNRs are in dB, times in seconds."""
        result: dict[str, float] = {}
        for name, scores in self.scores.items():
            values = scores.compute()
            if name:
                values.pop("seconds_per_counterfactual")
            result |= {_under(name, key): value for key, value in values.items()}
        return result

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals by name; every process has to call it."""
        return {
            _under(name, key): span
            for name, scores in self.scores.items()
            for key, span in scores.intervals().items()
        }

    # --- parts ---

    def _references(self) -> list[str]:
        """The reference methods that can be had: all need targets, two the true counterfactuals."""
        if not self.protocol.references or not self.readers:
            return []
        return ["do_nothing", *(["exact", "change_everything"] if self.truth.certain else [])]

    def _reference(self, name: str, batch: FactualBatch) -> CounterfactualMethod:
        if name == "do_nothing":
            return DoNothing(self.graph)
        assert self.truth.scene is not None  # or there would be no exact images
        method = {"exact": ExactMethod, "change_everything": ChangeEverything}[name]
        return method(self.truth.scene, self.truth.noise_at(batch.index, batch.factors))


def _readers(
    protocol: Protocol, scene: Scene | None, evaluator: Reader | None
) -> Mapping[str, Reader]:
    """The readers at hand, in the protocol's order."""
    known: dict[str, Reader | None] = {"ruler": scene, "evaluator": evaluator}
    found: dict[str, Reader] = {}
    for name in protocol.readers:
        reader = known[name]
        if reader is not None:
            found[name] = reader
    if not found and set(protocol.readers) != set(known):
        raise SettingsError(
            f"The protocol's only reader, {' and '.join(protocol.readers)}, is not at hand: the "
            "ruler needs data with a scene, the evaluator a trained one (diffcf evaluator)."
        )
    return found


def _under(name: str, key: str) -> str:
    return f"{name}/{key}" if name else key
