"""Counterfactuals to files: ``diffcf predict`` with an intervention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from diffcf.causal import written
from diffcf.io import write_json
from diffcf.methods import Sampling
from diffcf.reporting import save_image


class CounterfactualWriter(Callback):
    """During ``diffcf predict``, draws every image under one intervention and saves it.

    Writes ``<out>/<index>.png`` and ``<out>/factors.json`` with what the projector read and what
    the causal model predicts, per image, in the graph's native units (categories by name).

    Args:
        do: factor name → value in [0, 1] units, or the name of a category.
        out: folder to write.
        sampling: guidance rule, steps and depth.
    """

    def __init__(
        self,
        do: dict[str, float | str],
        out: str,
        sampling: Sampling = Sampling(),  # noqa: B008 (immutable)
    ) -> None:
        self.do, self.out, self.sampling = do, Path(out), sampling
        self._rows: dict[str, dict[str, list[float | str]]] = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        model: Any = pl_module
        abducted = model.method(self.sampling).abduct(batch["image"])
        answer = abducted.predict(self.do)
        self.out.mkdir(parents=True, exist_ok=True)
        graph = model.graph
        factual, predicted = abducted.factors, answer.factors
        was, became = written(graph, factual), written(graph, predicted)
        for row, index in enumerate(batch["index"].tolist()):
            save_image(answer.image[row], self.out / f"{index:06d}.png")
            self._rows[f"{index:06d}"] = {
                "factual": was[row],
                "counterfactual": became[row],
            }

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        names = list(model.graph.names)
        rank = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        record = {"factors": names, "do": self.do, "images": self._rows}
        write_json(record, self.out / f"factors{rank}.json")
        self._rows = {}
