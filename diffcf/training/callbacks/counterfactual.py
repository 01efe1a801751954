"""The callback that answers interventions during validation and test, and measures the answers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from diffcf.evaluation import (
    IMAGES,
    Answered,
    Cost,
    CounterfactualEvaluation,
    EvaluatorReader,
    ModelReadout,
    Perceptual,
    Protocol,
    measure_cost,
)
from diffcf.io import write_json
from diffcf.methods import SAMPLING_KEY, Sampling, sampling_to_spec
from diffcf.reporting import figures_of, log_picture, print_table, save_figure, write_page
from diffcf.training.provenance import provenance
from diffcf.training.tracking import log_answers, log_strengths


class CounterfactualCallback(Callback):
    """λt-guided counterfactuals at validation and test, measured, logged and drawn.

    Scalars go to the loggers as ``val/acm/light``, ``test/psnr/roots`` and so on; pictures,
    ``metrics.json`` and, at test, ``report.md`` into ``<log dir>/counterfactuals/<stage>``
    (``docs/metrics.md`` says what is in them); to W&B also tables (``docs/wandb.md``). Settings of
    sampling live here and not in the model, so that a checkpoint can be tested under any of them.

    Args:
        sampling: guidance rule, steps and depth.
        protocol: which interventions are made on how many images, at test. Validation measures
            single interventions only, drawn in the same way.
        val_images: images measured at each validation; 0 for none.
        samples: images shown in the pictures.
        evaluator: file of an independent evaluator (``diffcf evaluator``), which reads
            counterfactual images beside the scene's ruler, or where there is none.

    Raises:
        TypeError: when the data module is not built on
            :class:`data_modules.base.FactorImageDataModule`.
        CheckpointError: when the evaluator cannot be loaded, or reads another graph's factors.
    """

    def __init__(
        self,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
        protocol: Protocol = Protocol(),  # noqa: B008 (immutable)
        val_images: int = 64,
        samples: int = 3,
        evaluator: str | None = None,
    ) -> None:
        self.sampling, self.protocol = sampling, protocol
        self.val_images, self.samples = val_images, samples
        self.evaluator = evaluator
        self.metrics: dict[str, float] = {}
        self._reader: EvaluatorReader | None = None
        self._evaluation: CounterfactualEvaluation | None = None
        self._readout: ModelReadout | None = None
        self._answered: Answered | None = None
        self._cost: Cost | None = None
        self._started = 0.0

    # --- hooks ---

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        # Before anything is trained: a missing evaluator is an error now, not after an hour.
        if self.evaluator is not None and self._reader is None:
            self._reader = EvaluatorReader.load(self.evaluator, pl_module.graph)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[SAMPLING_KEY] = sampling_to_spec(self.sampling)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation = self._readout = None
        if trainer.sanity_checking or self.val_images == 0:
            return
        brief = replace(
            self.protocol,
            images=self.val_images,
            steps=0,
            cycles=0,
            reverse_images=0,
            fid_images=0,
            lpips=False,
            references=False,
        )
        self._begin(trainer, pl_module, "val", brief)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._measure(pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # First of all, before measuring takes memory of its own.
        self._cost = self._measured_cost(_data_of(trainer), pl_module)
        self._begin(trainer, pl_module, "test", self.protocol)
        self._readout = ModelReadout(pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._measure(pl_module, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    # --- work ---

    def _begin(self, trainer: Trainer, pl_module: Any, stage: str, protocol: Protocol) -> None:
        data = _data_of(trainer)
        self._answered, self._started = None, time.perf_counter()
        self._evaluation = CounterfactualEvaluation(
            pl_module.graph,
            data.factors_of(stage),
            protocol,
            data.scene,
            data.noise_of(stage),
            self._reader,
            Perceptual.of(protocol, data, pl_module.device, self._reader),
            pl_module.device,
        )

    def _measured_cost(self, data: Any, pl_module: Any) -> Cost:
        rows = torch.arange(min(IMAGES, data.size_of("test")))
        return measure_cost(
            pl_module.method(self.sampling),
            pl_module.networks(),
            pl_module.graph,
            data.images_of("test", rows).to(pl_module.device),
            data.factors_of("test")[rows].to(pl_module.device),
        )

    def _measure(self, pl_module: Any, batch: dict[str, Tensor]) -> None:
        if self._evaluation is None:
            return
        # By row of the set, not by count, so that every process knows its share.
        limit = self._evaluation.protocol.images
        chosen = batch["index"] < (limit if limit is not None else torch.inf)
        if not chosen.any():
            return
        image, index = batch["image"][chosen], batch["index"][chosen]
        answered = self._evaluation.update(pl_module.method(self.sampling), image, index)
        self._answered = self._answered or answered
        if self._readout is not None:
            self._readout.update(image, batch["factors"][chosen], index)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        evaluation, readout, cost = self._evaluation, self._readout, self._cost
        self._evaluation = self._readout = self._cost = None
        if evaluation is None:
            return
        # On every rank: they synchronise.
        self.metrics = evaluation.compute() | (readout.compute() if readout is not None else {})
        self.metrics |= cost.metrics() if cost is not None else {}
        intervals = evaluation.intervals()
        figures = figures_of(evaluation, self._answered, self.samples)
        logged = {f"{stage}/{name}": value for name, value in self.metrics.items()}
        # The same on every rank already, but for times; Lightning warns of each that is not synced.
        pl_module.log_dict(logged, sync_dist=True)
        record = {
            "metrics": self.metrics,
            "intervals": intervals,
            "readers": list(evaluation.readers),
            "target": evaluation.truth.source,
            "lambda_t": evaluation.traces,
            "images": evaluation.images(),
            "protocol": vars(evaluation.protocol),
        }
        if cost is not None:
            record["cost"] = vars(cost)
        # log_dir synchronises as well.
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "counterfactuals" / stage
        self._write(trainer, pl_module, folder, record, figures)
        self._log(trainer, stage, evaluation)

    @rank_zero_only
    def _write(
        self,
        trainer: Trainer,
        pl_module: Any,
        folder: Path,
        record: dict[str, Any],
        figures: dict[str, Any],
    ) -> None:
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            save_figure(figure, path)
            log_picture(trainer.loggers, f"{folder.name}/{name}", path, trainer.global_step)
        seconds = time.perf_counter() - self._started
        record["provenance"] = provenance(trainer, pl_module, self.sampling, seconds)
        write_json(record, folder / "metrics.json")
        if folder.name == "test":
            write_page(record, list(figures), folder / "report.md")
            print_table(self.metrics)
            print(f"report.md, metrics.json and the pictures are in {folder}")

    @rank_zero_only
    def _log(self, trainer: Trainer, stage: str, evaluation: CounterfactualEvaluation) -> None:
        loggers, step = trainer.loggers, trainer.global_step
        if self._answered is not None:
            log_answers(loggers, f"{stage}/counterfactuals", evaluation, self._answered, step)
        log_strengths(loggers, f"{stage}/lambda_t_curve", evaluation.traces, step)


def _data_of(trainer: Trainer) -> Any:
    """The data module; TypeError unless it offers its factors."""
    data: Any = getattr(trainer, "datamodule", None)
    if not hasattr(data, "factors_of"):
        raise TypeError(
            f"CounterfactualCallback draws values from the data's factors, and "
            f"{type(data).__name__} does not offer them: build it on "
            "data_modules.base.FactorImageDataModule, or remove the callback."
        )
    return data
