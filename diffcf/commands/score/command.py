"""``diffcf score``: counterfactuals by any program, measured as ours are.

``diffcf score --make pendulum --images 512 --out task`` writes a task
(:mod:`diffcf.commands.score.task`), ``diffcf score task answers --out result`` measures the answers
and writes what ``diffcf test`` writes: ``metrics.json``, ``images.csv``, ``report.md``, figures.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.progress import track

from diffcf import reporting
from diffcf.causal import Scene
from diffcf.commands.arguments import Seed, Side
from diffcf.commands.score.answers import Answers, SavedScene
from diffcf.commands.score.make import make
from diffcf.commands.score.task import SPLIT, Task
from diffcf.evaluation import (
    CounterfactualBatch,
    CounterfactualEvaluation,
    EvaluatorReader,
    Perceptual,
)
from diffcf.io import (
    RESULTS,
    SCORES,
    SettingsError,
    check_new,
    device_name,
    device_of,
    versions,
    whole_folder,
    write_json,
    write_text,
)
from diffcf.training import check_transform

MAKING = ("images", "size", "seed")
SCORING = ("evaluator", "fid", "name", "training_seed", "batch_size", "device")
NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_]")
BATCH, SHOWN = 64, 3


def score(args: Sequence[str]) -> None:
    """Command ``diffcf score``; ``--help`` lists the arguments.

    Raises:
        SettingsError: for arguments that do not fit together.
        OutputError: when the folder exists: nothing is overwritten.
    """
    parsed = _parser().parse_args(list(args))
    _check_arguments(parsed)
    check_new(parsed.out)
    if parsed.make is not None:
        print(make(parsed.make, parsed.out, parsed.images, parsed.size, parsed.seed or 0))
    else:
        _score(parsed)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="diffcf score", description="Write a task for any program, or score its answers."
    )
    parser.add_argument("task", type=Path, nargs="?", help="Folder of the task.")
    parser.add_argument("answers", type=Path, nargs="?", help="Folder of the answers.")
    parser.add_argument("--out", type=Path, required=True, help="Folder to make.")
    names = (
        "Write a task instead: pendulum, flow, shadow_sunlight, shadow_pointlight, faces or YAML."
    )
    parser.add_argument("--make", type=str, help=names)
    parser.add_argument("--images", type=PositiveInt, help="Of the task; 256 of built-in data.")
    parser.add_argument("--size", type=Side, help="Side of its images; 64 of built-in data.")
    parser.add_argument("--seed", type=Seed, help="Of the values it asks for; 0 as in benchmarks.")
    reader = "A trained evaluator (diffcf evaluator), needed where no scene made the data."
    parser.add_argument("--evaluator", type=Path, help=reader)
    fid = "Answers, and images, to measure FID, sFID and KID of."
    parser.add_argument("--fid", type=PositiveInt, help=fid)
    parser.add_argument("--name", type=str, help="Of the method in tables; else the folder's.")
    seed = "Of the method's training, where tables have several; 0 if left out."
    parser.add_argument("--training_seed", type=Seed, help=seed)
    parser.add_argument("--batch_size", type=PositiveInt, help=f"Images at once; {BATCH}.")
    parser.add_argument("--device", type=str, help="cpu, cuda, …; cpu if left out.")
    return parser


def _check_arguments(parsed: Namespace) -> None:
    making = parsed.make is not None
    if making and parsed.task is not None:
        raise SettingsError("--make writes a task and takes no folder but --out: leave others out.")
    if not making and parsed.answers is None:
        raise SettingsError(
            "diffcf score takes the folder of a task and that of its answers: name both, or write "
            "a task by --make."
        )
    for name in SCORING if making else MAKING:
        if parsed[name] is not None:
            verb = "scoring answers" if making else "making a task (--make)"
            raise SettingsError(f"--{name} is for {verb}: leave it out.")


def _score(parsed: Namespace) -> None:
    name, device = _name(parsed), device_of(parsed.device or "cpu")
    started = time.perf_counter()
    reads = parsed.evaluator is not None
    task = Task(parsed.task, training=reads or parsed.fid is not None)
    answers = Answers(parsed.answers, task)
    evaluator = EvaluatorReader.load(parsed.evaluator, task.graph) if reads else None
    evaluation = _evaluation(task, answers, evaluator, parsed.fid or 0, device)
    first = _measure(evaluation, task, answers, parsed.batch_size or BATCH, device)
    record = _record(evaluation, task, answers)
    record["provenance"] = {
        "method": name,
        "task": {key: task.record[key] for key in ("data", "digest", "made", "versions")},
        "graph": task.graph.to_dict(),
        "seed": parsed.training_seed or 0,
        "device": device_name(device),
        "training": None,  # not known to us
        "sampling": {"steps": 0},
        "versions": versions(),
        "evaluation_seconds": round(time.perf_counter() - started, 1),
    }
    record["benchmark"] = {
        "dataset": task.record["dataset"],
        "method": name,
        "seed": parsed.training_seed or 0,
    }
    figures = reporting.figures_of(evaluation, first, SHOWN)
    with whole_folder(parsed.out) as folder:
        write_json(record, folder / RESULTS)
        write_text(evaluation.by_image(), folder / SCORES)
        for title, figure in figures.items():
            reporting.save_figure(figure, folder / f"{title}.png")
        reporting.write_page(record, list(figures), folder / "report.md")
    reporting.print_table(record)
    print(f"report.md, {RESULTS}, {SCORES} and the pictures are in {parsed.out}")


def _name(parsed: Namespace) -> str:
    """The method's name in tables, which is a folder's in results."""
    name = parsed.name or parsed.answers.resolve().name
    if not NAME.fullmatch(name):
        raise SettingsError(f"'{name:.100}' cannot be a folder: give a --name of [A-Za-z0-9_.-].")
    return name


def _evaluation(
    task: Task,
    answers: Answers,
    evaluator: EvaluatorReader | None,
    fid_images: int,
    device: torch.device,
) -> CounterfactualEvaluation:
    data = task.data
    if data.scene is None and evaluator is None:
        raise SettingsError(
            f"No ruler reads the images of {task.folder}: give an --evaluator (diffcf evaluator)."
        )
    protocol = replace(task.protocol, fid_images=fid_images)
    perceptual = Perceptual.of(protocol, data, device, evaluator)
    if evaluator is not None:
        check_transform(evaluator, data)
    evaluation = CounterfactualEvaluation(
        task.graph,
        data.factors_of(SPLIT),
        protocol,
        SavedScene(data.scene) if isinstance(data.scene, Scene) else data.scene,
        data.noise_of(SPLIT),
        evaluator,
        perceptual,
        device,
        mirrored=getattr(data, "mirror", False),
        answered=answers.answered,
    )
    pictured = evaluation.scores[""].pictured.values()
    if fid_images and sum(int(chosen.sum()) for chosen in pictured) < 2:
        raise SettingsError("--fid needs two answers or more: leave it out, or give more of them.")
    return evaluation


def _measure(
    evaluation: CounterfactualEvaluation,
    task: Task,
    answers: Answers,
    batch_size: int,
    device: torch.device,
) -> CounterfactualBatch | None:
    """Measure all answers; the first batch is returned, for pictures."""
    # Where the truth is known, it and not the answers say what effects should be.
    known = evaluation.truth.identified
    reader = None if known else next(iter(evaluation.readers.values()), None)
    first: CounterfactualBatch | None = None
    for rows in track(answers.rows.split(batch_size), description="scoring"):
        method = answers.method(rows, reader)
        batch = evaluation.update(method, task.factuals(rows).to(device), rows)
        first = first or batch
    return first


def _record(
    evaluation: CounterfactualEvaluation, task: Task, answers: Answers
) -> dict[str, object]:
    metrics = evaluation.compute()
    metrics.pop("seconds_per_counterfactual", None)  # of reading a file
    record = evaluation.record(metrics)
    if not evaluation.truth.identified:
        record["target"] = "answers"
    scene = task.data.scene
    read = scene is not None and "ruler" in evaluation.readers
    record["ruler_error"] = scene.reading_error(task.size) if scene is not None and read else {}
    record["answers"] = answers.given
    return record
