"""Counterfactuals at validation and test: drawn, measured, logged and shown."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from matplotlib.figure import Figure

from diffcf import reporting
from diffcf.causal import intervened_of
from diffcf.evaluation import (
    IMAGES,
    Cost,
    CounterfactualBatch,
    CounterfactualEvaluation,
    EvaluationProtocol,
    EvaluatorReader,
    ModelReadout,
    Perceptual,
    draw_coverage,
    effect_rates,
    measure_cost,
)
from diffcf.io import (
    RESULTS,
    SCORES,
    CheckpointError,
    ImageTransform,
    SettingsError,
    check_writable,
    write_json,
    write_text,
)
from diffcf.methods import SAMPLING_KEY, CounterfactualModule, Sampling, sampling_to_spec
from diffcf.training.callbacks.running import checked_module
from diffcf.training.callbacks.writer import CounterfactualWriter as CounterfactualWriter
from diffcf.training.datasets import Batch, FactorData
from diffcf.training.folders import results_folder
from diffcf.training.tracking import log_answers, log_strengths, provenance

RULER_LIMIT = 0.02  # mean error of the ruler, in units of a factor's range, that is warned of


@dataclass
class _Pass:
    """One pass over a split, while it is measured."""

    stage: str
    evaluation: CounterfactualEvaluation
    started: float
    folder: Path  # where results go
    origin: dict[str, object]  # provenance
    cost: Cost | None = None
    readout: ModelReadout | None = None
    ruler_error: dict[str, float] = field(default_factory=dict)
    answered: CounterfactualBatch | None = None  # the first batch, for pictures


class CounterfactualCallback(Callback):
    """λt-guided counterfactuals at validation and test, measured, logged and drawn.

    Scalars go to the loggers as ``val/acm/light``, ``test/psnr/roots`` and so on; pictures,
    ``metrics.json``, scores by image (``images.csv``) and, at test, ``report.md`` into
    ``<log dir>/counterfactuals/<stage>`` (``docs/metrics.md`` says what is in them); to W&B also
    tables (``docs/wandb.md``). Settings of sampling live here and not in the model, so that a
    checkpoint can be tested under any of them.

    Args:
        sampling: guidance rule, steps and depth.
        protocol: which interventions are made on how many images, at test. Validation measures
            single interventions only, drawn in the same way.
        val_images: images measured at each validation; 0 for none.
        samples: images shown in the pictures.
        evaluator: file of an independent evaluator (``diffcf evaluator``), which reads
            counterfactual images beside the scene's ruler, or where there is none.

    Raises:
        SettingsError: for a count below its least, and when the data module is no
            :class:`diffcf.training.FactorData`, or the model no
            :class:`diffcf.methods.CounterfactualModule`.
        CheckpointError: when the evaluator cannot be loaded, reads another graph's factors, or saw
            files otherwise than the data module shows them.
    """

    def __init__(
        self,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
        protocol: EvaluationProtocol = EvaluationProtocol(),  # noqa: B008 (immutable)
        val_images: int = 64,
        samples: int = 3,
        evaluator: str | None = None,
    ) -> None:
        self.sampling, self.protocol = sampling, protocol
        if val_images < 0 or samples < 1:
            raise SettingsError(
                f"val_images must be at least 0 and samples at least 1, not {val_images} and "
                f"{samples}."
            )
        self.val_images, self.samples = val_images, samples
        self.evaluator = evaluator
        self.metrics: dict[str, float] = {}
        self._reader: EvaluatorReader | None = None
        self._pass: _Pass | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Before anything is trained: a missing evaluator is an error now, not after an hour.
        if self.evaluator is not None and self._reader is None:
            graph = checked_module(pl_module, self).graph
            self._reader = EvaluatorReader.load(self.evaluator, graph)
            check_transform(self._reader, _data_of(trainer))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[SAMPLING_KEY] = sampling_to_spec(self.sampling)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pass = None
        if trainer.sanity_checking or self.val_images == 0:
            return
        few = replace(self.protocol, images=self.val_images, steps=0, cycles=0, reverse_images=0)
        single = replace(few, fid_images=0, lpips=False, references=False)
        self._pass = self._begun(trainer, checked_module(pl_module, self), "val", single)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, data = checked_module(pl_module, self), _data_of(trainer)
        rows = torch.arange(min(IMAGES, data.size_of("test")))
        # First of all, before measuring takes memory of its own.
        images = data.images_of("test", rows).to(model.device)
        factors = data.factors_of("test")[rows].to(model.device)
        method, networks = model.method(self.sampling), model.networks()
        cost = measure_cost(method, networks, model.graph, images, factors)
        self._pass = self._begun(trainer, model, "test", self.protocol)
        self._pass.cost, self._pass.readout = cost, ModelReadout(model, method)
        if "ruler" in self._pass.evaluation.readers and data.scene is not None:
            self._pass.ruler_error = data.scene.reading_error(images.shape[-1])
            _warn_of(self._pass.ruler_error)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, *_: Any
    ) -> None:
        if self._pass is None:
            return
        # By row of the set, not by count, so that every process knows its share.
        chosen = batch["index"] < (self._pass.evaluation.protocol.images or torch.inf)
        if not chosen.any():
            return
        image, index = batch["image"][chosen], batch["index"][chosen]
        method = checked_module(pl_module, self).method(self.sampling)
        answered = self._pass.evaluation.update(method, image, index)
        self._pass.answered = self._pass.answered or answered
        if self._pass.readout is not None:
            self._pass.readout.update(image, batch["factors"][chosen], index)

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done, self._pass = self._pass, None
        if done is not None:
            self._finish(trainer, checked_module(pl_module, self), done)

    on_test_epoch_end = on_validation_epoch_end

    def _begun(
        self, trainer: Trainer, model: CounterfactualModule, stage: str, asked: EvaluationProtocol
    ) -> _Pass:
        # What may fail after the work fails before it: where it comes from, where it goes to.
        data, started, folder = (
            _data_of(trainer),
            time.perf_counter(),
            results_folder(trainer, stage),
        )
        origin = provenance(trainer, model, self.sampling)
        if trainer.is_global_zero:
            check_writable(folder / RESULTS)
        factors, noise, reader = data.factors_of(stage), data.noise_of(stage), self._reader
        perceptual = Perceptual.of(asked, data, model.device, reader)
        evaluation = CounterfactualEvaluation(
            model.graph,
            factors,
            asked,
            data.scene,
            noise,
            reader,
            perceptual,
            model.device,
            mirrored=getattr(data, "mirror", False),
        )
        return _Pass(stage, evaluation, started, folder, origin)

    def _finish(self, trainer: Trainer, model: CounterfactualModule, done: _Pass) -> None:
        evaluation, data = done.evaluation, _data_of(trainer)
        # On every rank: they synchronise.
        self.metrics = evaluation.compute()
        record = evaluation.record(self.metrics) | {"ruler_error": done.ruler_error}
        if done.readout is not None:
            self.metrics |= done.readout.compute()
        if done.stage == "test":
            self.metrics |= _of_mechanisms(model, data, evaluation)
        if done.cost is not None:
            self.metrics |= done.cost.metrics()
            record["cost"] = vars(done.cost)
        logged = {f"{done.stage}/{name}": value for name, value in self.metrics.items()}
        # The same on every rank already, but for times; Lightning warns of each that is not synced.
        model.log_dict(logged, sync_dist=True)
        by_image = evaluation.by_image() if done.stage == "test" else None
        self._write_metrics(done, record, by_image)
        figures = reporting.figures_of(evaluation, done.answered, self.samples)
        self._write_pictures(trainer, done, record, figures)

    @rank_zero_only
    def _write_metrics(self, done: _Pass, record: dict[str, object], by_image: str | None) -> None:
        """Before anything is drawn: no picture that fails may cost the numbers."""
        seconds = time.perf_counter() - done.started
        record["provenance"] = done.origin | {"evaluation_seconds": round(seconds, 1)}
        if by_image is not None:
            write_text(by_image, done.folder / SCORES)
        write_json(record, done.folder / RESULTS)

    @rank_zero_only
    def _write_pictures(
        self, trainer: Trainer, done: _Pass, record: dict[str, object], figures: dict[str, Figure]
    ) -> None:
        stage, folder = done.stage, done.folder
        if stage == "test":
            reporting.print_table(record)
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            reporting.save_figure(figure, path)
            reporting.log_picture(trainer.loggers, f"{stage}/{name}", path, trainer.global_step)
        if stage == "test":
            reporting.write_page(record, list(figures), folder / "report.md")
            print(f"report.md, {RESULTS}, {SCORES} and the pictures are in {folder}")
        if done.answered is not None:
            log_answers(trainer, f"{stage}/counterfactuals", done.evaluation, done.answered)
        log_strengths(trainer, f"{stage}/lambda_t_curve", done.evaluation.traces)


def check_transform(reader: EvaluatorReader, data: FactorData) -> None:
    """Raises CheckpointError for an evaluator of files that were seen otherwise than these.

    A multiple of the size is no other view: the evaluator averages it down.
    """
    own, recorded = getattr(data, "transform", None), reader.card.get("transform")
    if own is None or recorded is None:
        return
    multiple = own.size % reader.image_shape[-1] == 0
    seen = isinstance(recorded, dict) and recorded | {"size": own.size} == own.to_dict()
    if not (seen and multiple):
        raise CheckpointError(
            f"The evaluator was trained on files seen otherwise "
            f"({ImageTransform.from_dict(recorded)}) than these data show them ({own}): give both "
            "the same settings."
        )


def _of_mechanisms(
    model: CounterfactualModule, data: FactorData, evaluation: CounterfactualEvaluation
) -> dict[str, float]:
    """What is measured of a causal model without drawing an image; of others nothing."""
    nscm, scene, seed = getattr(model, "nscm", None), data.scene, evaluation.protocol.seed
    if nscm is None or (scene is not None and scene.identified):
        return {}
    asked = data.factors_of("test").to(model.device)
    if scene is not None:
        return draw_coverage(nscm, scene, asked, seed)
    observed, by_hand = data.factors_of("train"), intervened_of(data, "train")
    return effect_rates(nscm, model.graph, observed, asked, seed, by_hand)


def _data_of(trainer: Trainer) -> FactorData:
    data: object = getattr(trainer, "datamodule", None)
    if not isinstance(data, FactorData):
        raise SettingsError(
            f"CounterfactualCallback needs factors, which {type(data).__name__} lacks: build it on "
            "data_modules.base.FactorImageDataModule, or remove the callback."
        )
    return data


def _warn_of(errors: dict[str, float]) -> None:
    """Warn of factors that the ruler misreads by more than scores could show."""
    for name, error in errors.items():
        if error > RULER_LIMIT:
            rank_zero_warn(
                f"The ruler reads {name} off exact pictures of this style {error:.3f} of its range "
                "off: no score of it can be better."
            )
