"""Counterfactuals of whole splits at predict, by one process or many, as files and one table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from diffcf.causal import row_keys
from diffcf.io import (
    RECORD,
    Answered,
    AnswerFolder,
    OutputError,
    WriteBehind,
    check_table,
    check_writable,
    write_answers,
)
from diffcf.methods import CounterfactualModule, Sampling, sampling_to_spec, weights_digest
from diffcf.reporting import save_image
from diffcf.training.callbacks.running import checked_module
from diffcf.training.datasets import Batch


class CounterfactualWriter(Callback):
    """During ``diffcf predict``, draws every image under one intervention and saves it.

    Writes ``<out>/<index>.png`` and ``<out>/factors.json`` with what the projector read and what
    the causal model predicts, per image, in the graph's native units (categories by name); beyond
    10,000 images the rows are in ``<out>/factors.parquet``. Each process answers about its share of
    the images, and the first joins the rows at the end. Processes on several machines need a folder
    that all of them see.

    Until it is whole the folder lies at ``<out>.part``. When a process dies, what all of them have
    answered is kept there, and the same command goes on from there, with any number of processes.

    Args:
        do: factor name → value in [0, 1] units, or the name of a category.
        out: folder to write.
        sampling: guidance rule, steps and depth.
        seed: of the exogenous noise of discrete factors.

    Raises:
        OutputError: when ``out`` holds counterfactuals already, or anything else; ``<out>.part``
            answers to another question; or another run writes there.
    """

    def __init__(
        self,
        do: dict[str, float | str],
        out: str,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
        seed: int = 0,
    ) -> None:
        self.do, self.out, self.sampling, self.seed = do, Path(out), sampling, seed
        self._folder: AnswerFolder | None = None
        self._writer: WriteBehind | None = None
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "predict" and self.out.is_dir() and any(self.out.iterdir()):
            what = "counterfactuals already" if (self.out / RECORD).exists() else "something else"
            raise OutputError(f"{self.out} holds {what}: name another folder.")
        check_writable(self.out / RECORD)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model, images = checked_module(pl_module, self), _count_images(trainer)
        check_table(images)
        question = {
            "do": self.do,
            "seed": self.seed,
            "sampling": sampling_to_spec(self.sampling),
            "weights": weights_digest(model),
            "images": [images, trainer.limit_predict_batches],
        }
        folder, problem = AnswerFolder(self.out, question, process=trainer.global_rank), ""
        if trainer.is_global_zero:
            try:  # before another process writes: what does not count is removed
                folder.claim()
                folder.open()
            except OutputError as error:
                problem = str(error)
        # All processes say so and end: those that knew of nothing would wait for the first forever.
        if problem := trainer.strategy.broadcast(problem):
            folder.close()
            raise OutputError(problem)
        if not trainer.is_global_zero:
            folder.open()
        self._folder, self._writer, self._seen = folder, WriteBehind(), 0

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, *_: Any
    ) -> None:
        assert self._folder is not None and self._writer is not None
        names = [f"{index:06d}" for index in batch["index"].tolist()]
        keys = list(map(_digest, batch["image"].cpu()))
        self._seen += len(names)
        if all(map(self._folder.has, names, keys)):
            return
        images, rows = self._answer(checked_module(pl_module, self), batch)
        self._writer.put(partial(_save, self._folder, names, keys, images, rows))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._folder is not None and self._writer is not None
        self._writer.close()
        seen = torch.tensor(self._seen, device=pl_module.device)
        seen = trainer.strategy.reduce(seen, reduce_op="sum")  # waits for all processes
        if trainer.is_global_zero:
            names = list(checked_module(pl_module, self).graph.names)
            self._join(names, int(seen))
        self._folder.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: Any) -> None:
        """Keep what is answered."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()
        if self._folder is not None:
            self._folder.close()

    def _answer(
        self, model: CounterfactualModule, batch: Batch
    ) -> tuple[Tensor, list[dict[str, object]]]:
        """Counterfactuals ``[B, C, H, W]`` in main memory, and the row of each image."""
        keys = row_keys(batch["index"], self.seed)
        world = model.method(self.sampling).abduct(batch["image"], keys=keys)
        answer = world.predict(self.do)
        columns: dict[str, Sequence[object]] = {
            "factual": model.graph.native_rows(world.factors),
            "counterfactual": model.graph.native_rows(answer.factors),
        }
        if answer.undetermined is not None:
            flags = answer.undetermined.tolist()
            columns["undetermined"] = [list(compress(model.graph.names, row)) for row in flags]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return answer.image.cpu(), rows

    def _join(self, factors: list[str], count: int) -> None:
        """Make one table of the rows of all processes, and the folder whole."""
        assert self._folder is not None
        if (found := self._folder.join()) != count:
            raise OutputError(
                f"{self._folder.part} has {found} of {count} answers: name a folder that all "
                "machines share."
            )
        names = sorted(self._folder.names, key=int)
        asked = {"factors": factors, "do": self.do, "seed": self.seed}
        rows = self._folder.rows(names)
        write_answers(asked, factors, rows, count, self._folder.folder)
        self._folder.finish()


def _save(
    folder: AnswerFolder,
    names: list[str],
    keys: list[str],
    images: Tensor,
    rows: list[dict[str, object]],
) -> None:
    """Save a batch of counterfactuals, then note that they are."""
    for name, image in zip(names, images, strict=True):
        save_image(image, folder.folder / f"{name}.png")
    columns = zip(names, keys, rows, strict=True)
    folder.note(Answered(name, key, row, [f"{name}.png"]) for name, key, row in columns)


def _count_images(trainer: Trainer) -> int:
    """Images of all processes together, where their set has a length."""
    loaders = trainer.predict_dataloaders
    listed = loaders if isinstance(loaders, list | tuple) else [loaders]
    sets = (getattr(loader, "dataset", ()) for loader in listed)
    return sum(len(images) for images in sets if hasattr(images, "__len__"))


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.float().numpy().tobytes()).hexdigest()[:20]
