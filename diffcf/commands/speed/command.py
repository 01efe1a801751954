"""``diffcf bench experiments/pendulum.yaml``: the speed of an experiment's networks and data.

Weights are as they are initialised: speed does not depend on them. What is compared alternates in
one process, and ratios are medians over the rounds, so that they hold on a machine that is slow or
shared; absolute times hold for the machine named in the result only. The sections
``rendering`` and ``start`` measure the scenes and the shipped weights, whatever the experiment;
``overlay`` compares a training step with the files of ``--config`` to one without them.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor

from diffcf.commands.speed import Row, dispatch, pipeline, quality, sampling, throughput, training
from diffcf.io import (
    DataError,
    SettingsError,
    check_new,
    device_name,
    device_of,
    versions,
    write_json,
    write_text,
)
from diffcf.methods import DiffusionCounterfactuals, Sampling
from diffcf.reporting import markdown
from diffcf.training import CounterfactualCallback, DiffcfCLI, FactorData, cli

RESULTS = "bench.json"
QUALITY = "quality"  # a section, and the folder of its run


def bench(args: Sequence[str]) -> None:
    """Command ``diffcf bench``; ``--help`` lists the arguments."""
    parser = _parser()
    parsed = parser.parse_args(list(args))
    for kind, file in [("Experiment", parsed.experiment), *(("Config", f) for f in parsed.config)]:
        if not Path(file).is_file():
            raise DataError(f"{kind} {file} does not exist: check the path.")
    for name in (RESULTS, QUALITY):
        check_new(parsed.out / name)
    _device(parsed.device)
    started = time.perf_counter()
    sections = _sections(parsed)
    if unknown := set(parsed.only or ()) - set(sections):
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(sections)}")
    tables: dict[str, list[Row]] = {}
    for name, measure in sections.items():
        if not parsed.only or name in parsed.only:
            print(f"{name} …", flush=True)
            tables[name] = measure()
    record = {
        "sections": {name: [vars(row) for row in rows] for name, rows in tables.items()},
        "provenance": {
            "command": f"diffcf bench {parsed.experiment}",
            "settings": {k: str(v) for k, v in vars(parsed).items() if k != "out"},
            "device": device_name(_device(parsed.device)),
            "machine": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        },
    }
    write_json(record, parsed.out / RESULTS)
    cells = [[row.what, _number(row), row.target] for rows in tables.values() for row in rows]
    text = markdown(["measured", "median (least – largest)", "target"], cells)
    write_text(text, parsed.out / "bench.md")
    print(text)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf bench", description="Measure speed as ratios in one run.")
    parser.add_argument("experiment", type=Path, help="YAML of an experiment with our model.")
    parser.add_argument(
        "--config", action="append", type=str, default=[], help="YAML on top; may be repeated."
    )
    parser.add_argument("--only", action="append", type=str, help="Section; may be repeated.")
    parser.add_argument("--repeats", type=PositiveInt, default=7, help="Rounds of each comparison.")
    parser.add_argument("--images", type=PositiveInt, default=32, help="Images sampled at once.")
    parser.add_argument(
        "--steps", type=PositiveInt, default=30, help="Training steps of a stretch."
    )
    parser.add_argument(
        "--memory_steps", type=PositiveInt, default=400, help="Steps of the memory test."
    )
    parser.add_argument(
        "--batch_size", type=PositiveInt, help="Of training, where not the experiment's."
    )
    parser.add_argument(
        "--minutes", type=PositiveFloat, default=2.0, help="Of the training of section quality."
    )
    parser.add_argument("--compile", type=bool, default=False, help="Try torch.compile, minutes.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, or auto.")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="Folder to write.")
    return parser


def _number(row: Row) -> str:
    text = format(row.value, ".4g") if row.value >= 10 else format(row.value, ".3f")
    if row.spread is not None:
        text += f" ({row.spread[0]:.3g} – {row.spread[1]:.3g})"
    return text if row.unit == "ratio" else f"{text} {row.unit}"


def _sections(parsed: Namespace) -> dict[str, Callable[[], list[Row]]]:
    """What can be measured, by name."""
    options = _options(parsed)
    built = _built(options)
    model, data, device = built.model, built.datamodule, _device(parsed.device)
    if not isinstance(model, DiffusionCounterfactuals):
        found = f"Experiment {parsed.experiment} trains a {type(model).__name__}"
        raise SettingsError(f"{found}: name one of DiffusionCounterfactuals.")
    model.to(device)
    model.time_spent = 0.5  # past a head start, in which a network idles
    image, factors = _first(data, parsed.images, device)
    callbacks = built.trainer.callbacks  # type: ignore[attr-defined]
    own = [part.sampling for part in callbacks if isinstance(part, CounterfactualCallback)]
    drawn = (model.eval(), image, factors, own[0] if own else Sampling())
    rounds = parsed.repeats
    sections: dict[str, Callable[[], list[Row]]] = {
        "guidance": partial(sampling.guidance, *drawn, rounds),
        "what-ifs": partial(sampling.what_ifs, *drawn, rounds),
        "batch": partial(sampling.batch_sizes, *drawn, rounds),
        "formats": partial(sampling.formats, model, image, parsed.compile, rounds),
        "operations": partial(dispatch.operations, *drawn, data),
        "step": partial(throughput.training_steps, model, image, factors, parsed.compile, rounds),
        "sizes": partial(throughput.memory_by_size, model, image, factors, parsed.compile),
        QUALITY: partial(quality.over_time, options, parsed.minutes, parsed.out / QUALITY),
        "training": partial(training.steps, model, data, parsed.steps, rounds),
        "memory": partial(training.memory, model, data, parsed.memory_steps),
        "loading": partial(pipeline.loading, data, rounds),
        "rendering": partial(pipeline.rendering, rounds),
        "start": partial(sampling.starts, rounds),
    }
    if parsed.config:
        sections["overlay"] = partial(_overlay, parsed, model, image, factors)
    if not own and not parsed.only:
        del sections[QUALITY]  # of what is not measured; by name, one sentence says so
    return sections


def _overlay(
    parsed: Namespace, model: DiffusionCounterfactuals, image: Tensor, factors: Tensor
) -> list[Row]:
    """A step of the ``model``, which --config made, beside one of the experiment alone."""
    alone, device = _built(_options(parsed, overlays=False)), image.device
    batch = _first(alone.datamodule, parsed.images, device)
    with_it = throughput.Step(model, image, factors, compiled=False)
    without = throughput.Step(alone.model.to(device), *batch, compiled=False)
    return throughput.overlay(with_it, without, parsed.repeats)


def _first(data: FactorData, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first training images ``[B, C, H, W]`` and factors ``[B, K]``."""
    data.setup("fit")
    batches = list(islice(data.train_dataloader(), -(-count // data.batch_size)))
    image, factors = (
        torch.cat([batch[key] for batch in batches])[:count].to(device)
        for key in ("image", "factors")
    )
    return image, factors


def _options(parsed: Namespace, overlays: bool = True) -> list[str]:
    """The experiment as options of ``diffcf fit``, with the files on top or without."""
    files = [f"--config={file}" for file in (parsed.experiment, *parsed.config * overlays)]
    options = [*files, "--trainer.logger=false"]
    if parsed.batch_size is not None:
        options.append(f"--data.init_args.batch_size={parsed.batch_size}")
    return options


def _built(options: list[str]) -> DiffcfCLI:
    with warnings.catch_warnings():  # that our own arguments are not those of the shell
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        return cli(options, run=False)


def _device(name: str) -> torch.device:
    if name != "auto":
        return device_of(name)
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
