"""The callback that answers interventions during validation and test, and measures the answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from diffcf.callbacks.figures import (
    counterfactual_grid,
    log_picture,
    save_figure,
    strength_curve,
)
from diffcf.counterfactual import Sampling
from diffcf.evaluation import CounterfactualEvaluation, Example
from diffcf.report import print_table, provenance, write_json

__all__ = ["CounterfactualCallback"]


class CounterfactualCallback(Callback):
    """λt-guided counterfactuals at validation and test: ACM, PSNR, pictures, ``metrics.json``.

    Without a scene to judge by, only the reconstruction is measured and pictures are drawn.
    Scalars go to the loggers as ``val/acm/light``, ``test/psnr/roots`` and so on; pictures and
    ``metrics.json`` into ``<log dir>/counterfactuals/<stage>``. Settings of sampling live here and
    not in the model, so that a checkpoint can be tested under any of them.

    Args:
        sampling: guidance rule, steps and depth.
        val_images: images measured at each validation; 0 for none.
        test_images: images measured at test; None for all.
        sequence: length of the sequences of interventions at test.
        samples: images shown in the picture grid.
        seed: of the interventions.

    Raises:
        TypeError: when the data module is not built on
            :class:`data_modules.base.FactorImageDataModule`.
    """

    def __init__(
        self,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
        val_images: int = 64,
        test_images: int | None = None,
        sequence: int = 5,
        samples: int = 3,
        seed: int = 0,
    ) -> None:
        self.sampling = sampling
        self.val_images, self.test_images = val_images, test_images
        self.sequence, self.samples, self.seed = sequence, samples, seed
        self.metrics: dict[str, float] = {}
        self._evaluation: CounterfactualEvaluation | None = None
        self._example: Example | None = None
        self._started = 0.0

    # --- hooks ---

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        skip = trainer.sanity_checking or self.val_images == 0
        self._evaluation = None if skip else self._begin(trainer, pl_module, "val", 0)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._measure(pl_module, batch, self.val_images)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._evaluation = self._begin(trainer, pl_module, "test", self.sequence)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._measure(pl_module, batch, self.test_images)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    # --- work ---

    def _begin(
        self, trainer: Trainer, pl_module: Any, stage: str, sequence: int
    ) -> CounterfactualEvaluation:
        data: Any = getattr(trainer, "datamodule", None)
        if not hasattr(data, "factors_of"):
            raise TypeError(
                f"CounterfactualCallback draws values from the data's factors, and "
                f"{type(data).__name__} does not offer them: build it on "
                "data_modules.base.FactorImageDataModule, or remove the callback."
            )
        self._example, self._started = None, time.perf_counter()
        return CounterfactualEvaluation(
            pl_module.graph,
            data.scene,
            data.factors_of(stage),
            sequence,
            self.seed,
            pl_module.device,
            data.noise_of(stage),
        )

    def _measure(self, pl_module: Any, batch: dict[str, Tensor], limit: int | None) -> None:
        if self._evaluation is None:
            return
        # By row of the set, not by count, so that every process knows its share.
        chosen = batch["index"] < (limit if limit is not None else torch.inf)
        if not chosen.any():
            return
        image, index = batch["image"][chosen], batch["index"][chosen]
        example = self._evaluation.update(pl_module.engine(self.sampling), image, index)
        self._example = self._example or example

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None:
            return
        self.metrics = evaluation.compute()  # on every rank: it synchronises
        pl_module.log_dict(
            {f"{stage}/{name}": value for name, value in self.metrics.items()}, rank_zero_only=True
        )
        self._write(trainer, pl_module, stage, evaluation)

    @rank_zero_only
    def _write(
        self,
        trainer: Trainer,
        pl_module: Any,
        stage: str,
        evaluation: CounterfactualEvaluation,
    ) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "counterfactuals" / stage
        pictures = {}
        if self._example is not None:
            pictures["grid"] = counterfactual_grid(self._example, self.samples)
        if evaluation.traces:
            pictures["lambda_t"] = strength_curve(evaluation.traces)
        for name, figure in pictures.items():
            save_figure(figure, folder / f"{name}.png")
            path, key = folder / f"{name}.png", f"{stage}/{name}"
            log_picture(trainer.loggers, key, path, trainer.global_step)
        seconds = time.perf_counter() - self._started
        record = {
            "metrics": self.metrics,
            "lambda_t": evaluation.traces,
            "images": evaluation.images,
            "provenance": provenance(trainer, pl_module, self.sampling, seconds),
        }
        write_json(record, folder / "metrics.json")
        if stage == "test":
            print_table(self.metrics)
            print(f"Pictures and metrics.json are in {folder}")
