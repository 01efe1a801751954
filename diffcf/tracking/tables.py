"""Answers as W&B shows them: a table of counterfactuals to sort and filter, λt as a chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from torch import Tensor

from diffcf.evaluation import Answered, CounterfactualEvaluation
from diffcf.evaluation.example import Strength
from diffcf.graph import CausalGraph

__all__ = ["log_answers", "log_strengths"]

IMAGES = 8
"""Factual images of a table; each comes once for every factor that was set."""


def log_answers(
    loggers: Iterable[Logger],
    key: str,
    evaluation: CounterfactualEvaluation,
    answered: Answered,
    step: int,
) -> None:
    """A table with a row per image and factor set; other loggers than W&B's are passed over.

    Columns: ``row`` of the set, ``set`` (the factor) and ``do``; the images ``factual``,
    ``counterfactual`` and, where there is one, ``exact``; per factor what the counterfactual should
    show (``target``) and what the first reader reads off it (``read``), in native units; ``acm``,
    the mean absolute difference of the two in [0, 1] units.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            rows = _rows(evaluation, answered)
            data = [list(row.values()) for row in rows]
            logger.log_table(key, columns=list(rows[0]), data=data, step=step)


def log_strengths(
    loggers: Iterable[Logger],
    key: str,
    traces: Mapping[str, Sequence[Strength]],
    step: int,
) -> None:
    """λt (median over the images of a batch) against t, a line per factor set, for W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and traces:
            import wandb

            data = [[f"do({name})", s.t, s.median] for name, trace in traces.items() for s in trace]
            table = wandb.Table(columns=["set", "t", "lambda_t"], data=data)
            chart: Any = wandb.plot.line(table, "t", "lambda_t", stroke="set", title="λt")
            logger.log_metrics({key: chart}, step)


def _rows(evaluation: CounterfactualEvaluation, answered: Answered) -> list[dict[str, Any]]:
    """Rows by column."""
    graph, batch = evaluation.graph, answered.batch
    reader = next(iter(evaluation.readers.values()), None)
    rows = []
    for name, answer in answered.single.items():
        target = evaluation.truth.target(batch.factors, answer)
        read = None if reader is None else reader.read(answer.image[:IMAGES])
        values = answer.intervention.values[:, graph.column(name)].tolist()
        factor = graph.factors[graph.column(name)]
        for place, row in enumerate(batch.index[:IMAGES].tolist()):
            shown = {"factual": batch.image[place], "counterfactual": answer.image[place]}
            if name in answered.exact:
                shown["exact"] = answered.exact[name][place]
            cells = {"row": row, "set": name, "do": f"do({name} = {factor.text(values[place])})"}
            cells |= {title: _picture(image) for title, image in shown.items()}
            cells |= _native("target", graph, target[place])
            if read is not None:
                cells |= _native("read", graph, read[place])
                cells["acm"] = float((read[place] - target[place]).abs().mean())
            rows.append(cells)
    return rows


def _native(prefix: str, graph: CausalGraph, factors: Tensor) -> dict[str, float | str]:
    """A column per factor of one row ``[K]``: categories by name, other values as numbers."""
    native = graph.to_native(factors)
    return {
        f"{prefix} {factor.name}": factor.text(scaled) if factor.categories else value
        for factor, scaled, value in zip(
            graph.factors, factors.tolist(), native.tolist(), strict=True
        )
    }


def _picture(image: Tensor) -> Any:
    """An image ``[C, H, W]`` in [-1, 1] for a cell."""
    import wandb

    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    return wandb.Image(pixels.cpu().numpy())
