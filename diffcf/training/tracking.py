"""What is kept of a run: its config and provenance, and what goes to Weights & Biases.

Loggers other than W&B's are passed over.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from diffcf.causal import CausalGraph
from diffcf.evaluation import CounterfactualBatch, CounterfactualEvaluation, GuidanceStrength
from diffcf.io import UnavailableError, device_name, path_of, to_picture, versions
from diffcf.methods import CounterfactualModule, Sampling
from diffcf.training.callbacks.running import LastCheckpoint
from diffcf.training.folders import SavedConfig

_REMEDY = "log in with `wandb login`, or set WANDB_MODE=offline to keep the run on this machine."
_TABLE_IMAGES = 8  # factual images of a table; each comes once for every factor that was set


def run_config(trainer: Trainer) -> dict[str, Any] | None:
    """The config of the command line as plain text and numbers; None for runs from Python."""
    for callback in _callbacks(trainer):
        if isinstance(callback, SavedConfig):
            return yaml.safe_load(callback.text)
    return None


def provenance(
    trainer: Trainer, model: CounterfactualModule, sampling: Sampling
) -> dict[str, object]:
    """Where a measurement comes from: method, graph, seed, training, versions, device, config.

    To be called before the measurement, so that nothing that fails here costs its results.
    """
    return {
        "method": path_of(type(model)),
        "graph": model.graph.to_dict(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
        "device": device_name(model.device),
        "precision": trainer.precision,
        "training": model.training_record.as_dict(),
        "sampling": sampling_record(sampling),
        "versions": versions(),
        "config": run_config(trainer),
    }


def sampling_record(sampling: Sampling) -> dict[str, object]:
    """Settings of sampling as plain text and numbers; guidance rules by name and arguments."""
    return {
        name: {"rule": type(part).__name__, **vars(part)} if hasattr(part, "__dict__") else part
        for name, part in vars(sampling).items()
    }


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined]


# --- start of a W&B run ---


def start_runs(trainer: Trainer) -> None:
    """Start the runs of all W&B loggers now, on the first process.

    Lightning would do so after the data are prepared, and W&B would ask for a key on the terminal.

    Raises:
        UnavailableError: in one sentence, when there is no key or no server.
    """
    for logger in _wandb(trainer):
        # W&B reports its own errors over the network, even those of offline runs. The variable has
        # to be set before wandb is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb.errors

        if logger.save_dir is not None:
            # W&B would use the system's temporary folder where its own is missing.
            Path(logger.save_dir).mkdir(parents=True, exist_ok=True)
        try:
            with _empty_stdin():
                _ = logger.experiment
        except (wandb.errors.Error, ValueError) as error:
            raise UnavailableError(_sentence(error)) from None


def _wandb(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _sentence(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    reason = " ".join(line for line in lines if line and "further information" not in line)
    if "API key configured" in reason:
        return f"Weights & Biases has no key on this machine: {_REMEDY}"
    return f"Weights & Biases does not start ({reason.rstrip('.')}): {_REMEDY}"


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """No terminal to ask on: W&B then raises an error instead of prompting."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = terminal


# --- config and checkpoint ---


class WandbRecorder(Callback):
    """Logs the config once, nested, and the checkpoint with its config when training has ended.

    To W&B only. The command line always has it, with its arguments under ``wandb``.

    Args:
        checkpoint: whether the checkpoint of :class:`LastCheckpoint` is logged, with
            ``config.yaml``, as the artifact ``model-<run>``, unless training was cut short.
    """

    def __init__(self, checkpoint: bool = True) -> None:
        self.checkpoint = checkpoint

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for logger in _wandb(trainer):
            recorded = logger.experiment.config
            # What is there already stays: a sweep locks what it sets, and a resumed run keeps the
            # config of its training.
            config = _by_class(run_config(trainer) or {})
            recorded.update({k: v for k, v in config.items() if k not in recorded})

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        written = [part.file for part in _callbacks(trainer) if isinstance(part, LastCheckpoint)]
        for logger in _wandb(trainer) if self.checkpoint and written else []:
            import wandb

            run, metadata = logger.experiment, {"step": trainer.global_step}
            artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=metadata)
            # A copy, since the file is written over when training goes on.
            if written[0].is_dir():
                artifact.add_dir(str(written[0]), written[0].name)
            else:
                artifact.add_file(str(written[0]))
            with artifact.new_file("config.yaml") as file:
                yaml.safe_dump(run_config(trainer), file, sort_keys=False)
            run.log_artifact(artifact)


def _by_class(config: Mapping[str, Any]) -> dict[str, object]:
    """The config with its list of callbacks as a mapping by class: W&B sorts by keys, not lists."""
    trainer = dict(config.get("trainer") or {})
    count: Counter[str] = Counter()
    named = {}
    for callback in trainer.get("callbacks") or []:
        name = callback["class_path"].rpartition(".")[2]
        count[name] += 1
        named[name if count[name] == 1 else f"{name}_{count[name]}"] = callback
    return {**config, "trainer": trainer | {"callbacks": named}} if trainer else dict(config)


# --- tables of counterfactuals ---


def log_answers(
    trainer: Trainer, key: str, evaluation: CounterfactualEvaluation, answered: CounterfactualBatch
) -> None:
    """Log a table with a row per image and factor set.

    Columns: ``row`` of the set, ``set`` (the factor) and ``do``; the images ``factual``,
    ``counterfactual`` and, where there is one, ``exact``; per factor what the counterfactual should
    show (``target``) and what the first reader reads off it (``read``), in native units; ``acm``,
    the mean absolute difference of the two in [0, 1] units.
    """
    for logger in _wandb(trainer):
        rows = _rows(evaluation, answered)
        if not rows:
            continue
        data = [list(row.values()) for row in rows]
        logger.log_table(key, columns=list(rows[0]), data=data, step=trainer.global_step)


def log_strengths(
    trainer: Trainer, key: str, traces: Mapping[str, Sequence[GuidanceStrength]]
) -> None:
    """Log λt (median over the images of a batch) against t, a line per factor set."""
    for logger in _wandb(trainer) if traces else []:
        import wandb

        data = [[f"do({name})", s.t, s.median] for name, trace in traces.items() for s in trace]
        table = wandb.Table(columns=["set", "t", "lambda_t"], data=data)
        chart: Any = wandb.plot.line(table, "t", "lambda_t", stroke="set", title="λt")
        logger.log_metrics({key: chart}, trainer.global_step)


def _rows(
    evaluation: CounterfactualEvaluation, answered: CounterfactualBatch
) -> list[dict[str, object]]:
    import wandb

    graph, batch = evaluation.graph, answered.factual
    reader = next(iter(evaluation.readers.values()), None)
    rows = []
    for name, answer in answered.single.items():
        target = evaluation.truth.target(batch.factors, answer)
        read = None if reader is None else reader.read(answer.image[:_TABLE_IMAGES])
        values = answer.intervention.values[:, graph.column(name)].tolist()
        factor = graph.factors[graph.column(name)]
        asked = answer.intervention.mask.any(dim=1).tolist()
        for place, row in enumerate(batch.index[:_TABLE_IMAGES].tolist()):
            if not asked[place]:
                continue
            images = {"factual": batch.image[place], "counterfactual": answer.image[place]}
            if name in answered.exact:
                images["exact"] = answered.exact[name][place]
            cells = {"row": row, "set": name, "do": f"do({name} = {factor.text(values[place])})"}
            cells |= {title: wandb.Image(to_picture(image)) for title, image in images.items()}
            cells |= _native("target", graph, target[place])
            if read is not None:
                cells |= _native("read", graph, read[place])
                cells["acm"] = float((read[place] - target[place]).abs().mean())
            rows.append(cells)
    return rows


def _native(prefix: str, graph: CausalGraph, factors: Tensor) -> dict[str, float | str]:
    """A column per factor of one row ``[K]``: categories by name, other values as numbers."""
    names = (f"{prefix} {name}" for name in graph.names)
    return dict(zip(names, graph.native_rows(factors[None])[0], strict=True))
