"""Where a W&B run writes: beside its checkpoint, and in a sweep each run in a folder of its own."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation import Answered, CounterfactualEvaluation, Strength
from diffcf.io import UnavailableError, class_at
from diffcf.training.callbacks.resuming import LastCheckpoint
from diffcf.training.provenance import run_config

PROJECT = "diffcf"
"""Where runs go unless the logger or WANDB_PROJECT says otherwise."""

_HERE = "."  # WandbLogger's default folder
_FOLDER = "logs"  # what the experiments call the folder of their CSV files


def settle(config: Namespace) -> None:
    """Give a run that logs to W&B its folder and project, in a LightningCLI config that was parsed.

    The folder is ``trainer.default_root_dir`` unless the logger names another ``save_dir``. In a
    sweep it is ``<default_root_dir>/sweeps/<sweep>/<run>``, and checkpoints that would go to
    ``default_root_dir`` go there as well: the runs of a sweep share their config.
    """
    trainer = config.trainer
    loggers = [part.init_args for part in _parts(trainer.logger) if _is_wandb(part)]
    if not loggers:
        return
    root = trainer.default_root_dir or _HERE
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    folder = str(Path(root) / "sweeps" / sweep / run) if sweep and run else root
    trainer.default_root_dir = folder
    for logger in loggers:
        if str(logger.save_dir) in (_HERE, root):
            logger.save_dir = folder
        # A logger that replaces another in the config inherits its name.
        if logger.name == _FOLDER:
            logger.name = None
        logger.project = logger.project or os.environ.get("WANDB_PROJECT", PROJECT)
    for callback in _parts(trainer.callbacks):
        arguments = callback.get("init_args")
        if arguments is not None and arguments.get("dirpath") == root:
            arguments.dirpath = folder


def _is_wandb(logger: Namespace) -> bool:
    return issubclass(class_at(logger.class_path, Logger), WandbLogger)


def _parts(value: Any) -> list[Namespace]:
    """The objects described in one place of the config."""
    listed = value if isinstance(value, list) else [value]
    return [part for part in listed if isinstance(part, Namespace)]


REMEDY = "log in with `wandb login`, or set WANDB_MODE=offline to keep the run on this machine."


def wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    """The trainer's W&B loggers; mostly none."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def start_runs(trainer: Trainer) -> None:
    """Start the runs of all W&B loggers now, on the first process.

    Lightning would start them after the data are prepared, and W&B would ask for a key on the
    terminal: a job over night would wait for an answer until the morning.

    Raises:
        UnavailableError: in one sentence, when there is no key or no server.
    """
    for logger in wandb_loggers(trainer):
        # Its reports of its own errors go over the network as well, even of offline runs. This has
        # to be said before wandb is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb.errors

        if logger.save_dir is not None:
            # W&B takes the system's temporary folder where its own is missing.
            Path(logger.save_dir).mkdir(parents=True, exist_ok=True)
        try:
            with _nobody_at_the_terminal():
                _ = logger.experiment
        except (wandb.errors.Error, ValueError) as error:
            raise UnavailableError(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    said = " ".join(line for line in lines if line and "further information" not in line)
    if "API key configured" in said:
        return f"Weights & Biases has no key on this machine: {REMEDY}"
    return f"Weights & Biases does not start ({said.rstrip('.')}): {REMEDY}"


@contextmanager
def _nobody_at_the_terminal() -> Iterator[None]:
    """An input that is at its end: W&B asks only those who can answer."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as nobody:
        sys.stdin = nobody
        try:
            yield
        finally:
            sys.stdin = terminal


class WandbRecorder(Callback):
    """Logs the config once, nested, and the checkpoint with its config when training has ended.

    Does nothing unless a WandbLogger is among the loggers, and then on the first process only. The
    command line always has it, with its arguments under ``wandb``.

    Args:
        checkpoint: whether the checkpoint of :class:`LastCheckpoint` is logged, with
            ``config.yaml``, as the artifact ``model-<run>``. A training that is cut short leaves
            it in the folder of the run only.
    """

    def __init__(self, checkpoint: bool = True) -> None:
        self.checkpoint = checkpoint

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in wandb_loggers(trainer):
            run = logger.experiment
            # What is there already stays: a sweep locks what it sets, and a run that is gone on
            # with keeps the config of its training.
            config = _by_class(run_config(trainer) or {})
            run.config.update({k: v for k, v in config.items() if k not in run.config})

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        written = [callback for callback in callbacks if isinstance(callback, LastCheckpoint)]
        if self.checkpoint and written:
            for logger in wandb_loggers(trainer):
                _log_checkpoint(logger.experiment, written[0], trainer)


def _log_checkpoint(run: Any, last: LastCheckpoint, trainer: Trainer) -> None:
    import wandb

    artifact = wandb.Artifact(f"model-{run.id}", "model", metadata={"step": trainer.global_step})
    # A copy, since the file is written over when training goes on.
    if last.file.is_dir():
        artifact.add_dir(str(last.file), last.file.name)
    else:
        artifact.add_file(str(last.file))
    with artifact.new_file("config.yaml") as file:
        yaml.safe_dump(run_config(trainer), file, sort_keys=False)
    run.log_artifact(artifact)


def _by_class(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with its list of callbacks as a mapping by class: W&B sorts by keys, not lists."""
    trainer = dict(config.get("trainer") or {})
    count: Counter[str] = Counter()
    named = {}
    for callback in trainer.get("callbacks") or []:
        name = callback["class_path"].rpartition(".")[2]
        count[name] += 1
        named[name if count[name] == 1 else f"{name}_{count[name]}"] = callback
    return {**config, "trainer": trainer | {"callbacks": named}} if trainer else dict(config)


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
