"""Measure a method: the one procedure behind callback, ablation and benchmark.

For every image: the null intervention and one intervention on each factor; for some of them
sequences, repeated null interventions and the undoing of each intervention
(:class:`diffcf.evaluation.protocol.EvaluationProtocol`). Reference methods
(:mod:`diffcf.evaluation.references`) are given the same images and interventions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple, Self

import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from diffcf.causal import CausalGraph, Reader, Scene, TrueModel
from diffcf.evaluation.metrics.disentanglement import DCI, IRS
from diffcf.evaluation.metrics.graph_distance import (
    edge_f1,
    learned_adjacency,
    structural_hamming_distance,
)
from diffcf.evaluation.perceptual import Perceptual, bias_note
from diffcf.evaluation.plan import Answered, FactualBatch, InterventionPlan
from diffcf.evaluation.protocol import EvaluationProtocol
from diffcf.evaluation.readings import ReadingError
from diffcf.evaluation.references import ChangeEverything, DoNothing, ExactMethod, Mirrored, Truth
from diffcf.evaluation.scores import CounterfactualBatch, Scores
from diffcf.io import SettingsError
from diffcf.methods import CounterfactualEngine, CounterfactualModule, EncodedMethod, Method

BY_IMAGE = (
    "acm/roots",
    "acm/leaves",
    "psnr",
    "kept",
    "identity",
    "psnr/reconstruction",
    "composition/1",
    "reversibility_psnr",
    "minimality",
)
"""Scores that are kept image by image, beside ACM after each step of a sequence."""


class GuidanceStrength(NamedTuple):
    """λ_t over the images of a batch, at one time of their paths."""

    t: float
    median: float
    low: float  # the 10% quantile
    high: float  # the 90% quantile

    @classmethod
    def of(cls, t: float, strength: Tensor) -> Self:
        """Summary of λ_t ``[B]`` at time ``t``."""
        middle, low, high = (float(strength.float().quantile(q)) for q in (0.5, 0.1, 0.9))
        return cls(t, middle, low, high)


class CounterfactualEvaluation:
    """Accumulates over batches; :meth:`compute` gives numbers by name.

    Results of the first reader at hand have plain names (``acm/light``), those of the second start
    with ``evaluator/``, those of a reference method with its name (``do_nothing/acm/light``).

    Args:
        graph: the causal graph.
        factors: ``[N, K]``, the factual factors of the whole set.
        protocol: what is asked.
        scene: true model and ruler, if known; a scene draws exact images as well.
        noise: ``[N, M]``, the scene's image noise of the whole set, if known.
        evaluator: an independent network that reads images, if there is one.
        perceptual: FID and LPIPS, as far as they are asked for and at hand.
        mirrored: whether factors do not depend on left and right, so that the mirrored factual is
            another reference.
        device: where metrics accumulate.
        answered: the questions that the method answers, where it need not answer all. The
            references are asked no others.

    Attributes:
        traces: per intervened factor, the guidance strengths along the path of the first batch.

    Raises:
        SettingsError: when the protocol asks for readers only of which none is at hand.
    """

    def __init__(
        self,
        graph: CausalGraph,
        factors: Tensor,
        protocol: EvaluationProtocol,
        scene: TrueModel | None = None,
        noise: Tensor | None = None,
        evaluator: Reader | None = None,
        perceptual: Perceptual = Perceptual(),  # noqa: B008 (immutable)
        device: torch.device | None = None,
        mirrored: bool = False,
        answered: Answered | None = None,
    ) -> None:
        self.mirrored = mirrored
        self.graph, self.protocol = graph, protocol
        self.truth = Truth(scene, noise)
        self.readers = _readers(protocol, scene, evaluator)
        self.plan = InterventionPlan.of(graph, factors.cpu(), protocol, scene)
        if answered is not None:
            self.plan.keep(answered)
        readers = enumerate(self.readers.items())
        prefixed = {f"{name}/" if place else "": reader for place, (name, reader) in readers}
        self._perceptual, plain = perceptual, replace(perceptual, quality=None)
        # Images as they are: each counts once, not once for every question about it.
        unpictured = ("do_nothing/", "mirrored/")
        self.scores = {
            name: Scores(
                self.plan,
                self.truth,
                prefixed,
                plain if name in unpictured else perceptual,
                device,
            )
            for name in ("", *self._references())
        }
        self.traces: dict[str, list[GuidanceStrength]] = {}

    @torch.no_grad()
    def update(self, method: Method, image: Tensor, index: Tensor) -> CounterfactualBatch:
        """Measure a batch ``[B, C, H, W]`` whose rows in the set are ``index`` ``[B]``."""
        index = index.cpu()
        batch = FactualBatch(image, self.plan.factors[index].to(image.device), index)
        answers = self.scores[""].update(lambda _: method, batch)
        for name, scores in self.scores.items():
            if name:
                scores.update(partial(self._reference, name), batch, answers)
        for name, answer in answers.single.items():
            if answer.trace and name not in self.traces:
                self.traces[name] = [GuidanceStrength.of(t, s) for t, s in answer.trace]
        return answers

    def images(self) -> int:
        """How many images were measured; every process has to call it."""
        own = self.scores[""]
        # All undergo the null intervention, unless answers to it are lacking.
        every = (own.composition,) if self.plan.null.all() else (own.composition, own.change)
        index = [metric.gathered()[2] for metric in every if metric is not None]
        return len(torch.cat(index).unique())

    def compute(self) -> dict[str, float]:
        """Numbers by name; every process has to call it. PSNRs are in dB, times in seconds."""
        result: dict[str, float] = {}
        for name, scores in self.scores.items():
            values = scores.compute()
            if name:
                values.pop("seconds_per_counterfactual", None)
            result |= {name + key: value for key, value in values.items()}
        if "fid" in result:
            result |= self._of_real_images()
            # Of what was measured: a test may have fewer images than asked for.
            note = bias_note(int(result["fid_images"]), int(result["fid_real_images"]))
            if note is not None:
                rank_zero_info(note)
        return result

    def _of_real_images(self) -> dict[str, float]:
        """FID, sFID and KID of the factuals themselves, and of training images: the floor.

        ``fid_factuals`` are how many images the counterfactuals of FID are of.
        """
        quality = self.scores[""].quality
        assert quality is not None
        with quality.sync_context():
            pictured = quality.kept()[-1].cpu()
        rows = pictured.div(len(self.graph), rounding_mode="floor").unique()
        result: dict[str, float] = {"fid_factuals": len(rows)}
        if (
            self._perceptual.unchanged is not None
            and "do_nothing/" in self.scores
            and len(rows) > 1
        ):
            of_rows = self._perceptual.unchanged(rows)
            result |= {f"do_nothing/{name}": value for name, value in of_rows.items()}
        return result | (self._perceptual.floor() if self._perceptual.floor is not None else {})

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals by name; every process has to call it."""
        return {
            name + key: span
            for name, scores in self.scores.items()
            for key, span in scores.intervals().items()
        }

    def by_image(self) -> str:
        """The method's own scores of each image, as CSV; every process has to call it.

        The columns are those of :data:`BY_IMAGE` that were measured, a row for each image; its
        cell is empty where the image was not asked all that the score is of.
        """
        found = self.scores[""].by_image()
        steps = [f"acm/step_{step + 1}" for step in range(self.protocol.steps)]
        names = [name for name in (*BY_IMAGE, *steps) if name in found]
        columns = {name: [part.numpy() for part in found[name]] for name in names}
        scores = {name: pd.Series(values, rows) for name, (rows, values) in columns.items()}
        table = pd.DataFrame(scores).sort_index()
        return table.to_csv(index_label="image", float_format="%.5g", lineterminator="\n")

    def record(self, metrics: dict[str, float]) -> dict[str, object]:
        """What ``metrics.json`` keeps of a test, with the ``metrics`` of :meth:`compute`.

        Every process has to call it.
        """
        return {
            "metrics": metrics,
            "intervals": self.intervals(),
            "readers": list(self.readers),
            "target": self.truth.source,
            "lambda_t": self.traces,
            "images": self.images(),
            "left_out": self.plan.left_out,
            "protocol": vars(self.protocol),
        }

    def _references(self) -> list[str]:
        """Prefixes of the reference methods: all need targets, two the true counterfactuals."""
        if not self.protocol.references or not self.readers:
            return []
        certain = ["exact/", "change_everything/"] if self.truth.certain else []
        return ["do_nothing/", *(["mirrored/"] if self.mirrored else []), *certain]

    def _reference(self, name: str, batch: FactualBatch) -> Method:
        if name in ("do_nothing/", "mirrored/"):
            return (DoNothing if name == "do_nothing/" else Mirrored)(self.graph)
        assert isinstance(self.truth.scene, Scene)  # or there would be no exact images
        method = ExactMethod if name == "exact/" else ChangeEverything
        return method(self.truth.scene, self.truth.noise_at(batch.index, batch.factors))


def _readers(
    protocol: EvaluationProtocol, scene: TrueModel | None, evaluator: Reader | None
) -> dict[str, Reader]:
    """The readers at hand, in the protocol's order."""
    known: dict[str, Reader | None] = {"ruler": scene, "evaluator": evaluator}
    asked = ((name, known[name]) for name in protocol.readers)
    found: dict[str, Reader] = {name: reader for name, reader in asked if reader is not None}
    if not found and set(protocol.readers) != set(known):
        raise SettingsError(
            f"The protocol's only reader, {' and '.join(protocol.readers)}, is not at hand: the "
            "ruler needs data with a scene, the evaluator a trained one (diffcf evaluator)."
        )
    return found


class ModelReadout:
    """DCI, IRS and error of what is read off the images themselves; distance of a learned graph.

    Nothing is measured of a model that reads nothing and learns no graph. ``method``, the model's,
    may read better than its network alone: the error is that of what it abducts from.
    """

    def __init__(self, model: CounterfactualModule, method: Method) -> None:
        self.model, self.method, self.graph = model, method, model.graph
        self.metrics = {"DCI": DCI(self.graph), "IRS": IRS(self.graph)} if model.reads else {}
        self.error = ReadingError(self.graph)
        for metric in (*self.metrics.values(), self.error):
            metric.to(model.device)

    @torch.no_grad()
    def update(self, image: Tensor, factors: Tensor, index: Tensor) -> None:
        """Read images ``[B, C, H, W]`` of known factors ``[B, K]``."""
        if not self.metrics:
            return
        # One number for each factor: as one-hot columns a category would be spread over codes.
        code = self.graph.decode(self.model.read(image), hard=False)
        for metric in self.metrics.values():
            metric.update(code, factors, index)
        read = None
        if isinstance(self.method, CounterfactualEngine | EncodedMethod):
            read = self.method.read(image)
        self.error.update((code if read is None else read).clamp(0, 1), factors, index)

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
        if self.metrics:
            result |= {key: float(value) for key, value in self.error.compute().items()}
        learned = learned_adjacency(getattr(self.model, "nscm", None))
        if learned is not None:
            true = self.graph.adjacency
            result["graph/shd"] = float(structural_hamming_distance(learned, true))
            result["graph/edge_f1"] = edge_f1(learned, true)
        return result
