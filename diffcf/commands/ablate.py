"""Guidance ablation: one checkpoint, one set of interventions, many ways to sample.

``diffcf ablate CKPT --config experiments/ablations/guidance.yaml`` measures every named variant on
the same held-out images and writes ``ablation.json`` and ``ablation.md``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, seed_everything
from rich.progress import track
from torch import Tensor

from diffcf.api import load
from diffcf.causal import Intervention
from diffcf.evaluation import CounterfactualEvaluation, Protocol
from diffcf.io import CheckpointError, device_name, versions, write_json, write_text
from diffcf.methods import CounterfactualMethod, CounterfactualModule, Sampling, World
from diffcf.reporting import markdown
from diffcf.training import describe

TOLD = "told the factors"
_TIMED_IMAGES, _TIMED_TURNS = 16, 3
_COLUMNS = {
    "ACM roots": ("acm/roots", ".4f"),
    "ACM leaves": ("acm/leaves", ".4f"),
    "PSNR roots": ("psnr/roots", ".1f"),
    "PSNR leaves": ("psnr/leaves", ".1f"),
    "reconstruction": ("psnr/reconstruction", ".1f"),
    "ACM in turn": ("acm/in_turn", ".4f"),
    "PSNR in turn": ("psnr/in_turn", ".1f"),
    "time / none": ("time_ratio", ".2f"),
}


def ablation_parser() -> ArgumentParser:
    """What ``diffcf ablate`` takes."""
    parser = ArgumentParser(prog="diffcf ablate", description="Compare guidance rules.")
    parser.add_argument("--config", action="config", help="YAML file with the arguments below.")
    parser.add_argument("ckpt", type=str, help="Checkpoint, weights file or shipped name.")
    parser.add_argument("--data", type=LightningDataModule, help="Data module with a scene.")
    parser.add_argument("--variants", type=dict[str, Sampling], help="Rows by name.")
    parser.add_argument("--images", type=int, default=128, help="Held-out images.")
    parser.add_argument(
        "--split",
        type=Literal["test", "val"],
        default="test",
        help="Where they are from; choose settings by those of val.",
    )
    parser.add_argument(
        "--sequence", type=int, default=0, help="Interventions in turn, 0 for none."
    )
    parser.add_argument(
        "--read", type=bool, default=False, help="Factors are read off the factual, not told."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the interventions.")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="Folder to write.")
    return parser


@dataclass(frozen=True)
class Asked:
    """What every variant is asked.

    Attributes:
        images: the first of the split.
        seed: of the interventions.
        sequence: interventions in turn, each upon the image that the one before it left; 0 for
            none.
        read: whether the factual's factors are read off its image, not told.
        split: ``"test"`` or ``"val"``.
    """

    images: int
    seed: int = 0
    sequence: int = 0
    read: bool = False
    split: str = "test"


class _Untold:
    """A method that has to read the factors of the factual itself."""

    def __init__(self, method: CounterfactualMethod) -> None:
        self.method = method

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> World:
        return self.method.abduct(image)


def ablate(args: Sequence[str]) -> None:
    """Command ``diffcf ablate``; ``--help`` lists the arguments."""
    parser = ablation_parser()
    config = parser.parse_args(list(args))
    built = parser.instantiate_classes(config)
    if built.data is None or not built.variants:
        parser.error("name --data and --variants, or a --config that does")
    started = time.perf_counter()
    model = load(built.ckpt).module
    if model.graph != built.data.graph:
        raise CheckpointError(f"Checkpoint {built.ckpt} belongs to another graph, {model.graph}.")
    seed_everything(built.seed, verbose=False)
    asked = Asked(built.images, built.seed, built.sequence, built.read, built.split)
    rows = measure(model, built.data, built.variants, asked)
    record = {
        "rows": rows,
        "variants": {
            name: vars(v) | {"guidance": describe(v.guidance)} for name, v in built.variants.items()
        },
        "provenance": {
            "checkpoint": Path(built.ckpt).name,
            "training": model.training_record.as_dict(),
            **vars(asked),
            "device": device_name(model.device),
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        },
    }
    write_json(record, built.out / "ablation.json")
    text = as_markdown(rows)
    write_text(text, built.out / "ablation.md")
    print(text)


def measure(
    model: CounterfactualModule,
    data: Any,
    variants: dict[str, Sampling],
    asked: Asked,
) -> dict[str, dict[str, float]]:
    """Metrics of every variant on the first images of the split.

    ``time_ratio`` is the sampling time over that of the unguided variant with the same steps and
    depth; it is left out where there is none. ``acm/in_turn`` and ``psnr/in_turn`` are those of the
    last intervention of a sequence. Where factors are read, the first variant is measured once more
    with the factors told.
    """
    images, sequence = asked.images, asked.sequence
    data.setup()
    factors, noise = data.factors_of(asked.split), data.noise_of(asked.split)
    batches = data.val_dataloader() if asked.split == "val" else data.test_dataloader()
    protocol = Protocol(images=images, steps=sequence, cycles=0, reverse_images=0, seed=asked.seed)
    rows: dict[str, dict[str, float]] = {}
    methods: dict[str, Any] = {name: model.method(variant) for name, variant in variants.items()}
    if asked.read:
        told = next(iter(methods.values()))
        methods = {name: _Untold(method) for name, method in methods.items()} | {TOLD: told}
    for name, method in track(methods.items(), description="ablation"):
        evaluation = CounterfactualEvaluation(model.graph, factors, protocol, data.scene, noise)
        for batch in batches:
            keep = batch["index"] < images
            if keep.any():
                evaluation.update(method, batch["image"][keep], batch["index"][keep])
        rows[name] = evaluation.compute()
        if sequence:
            for whose in ("acm", "psnr", "do_nothing/acm", "do_nothing/psnr"):
                rows[name][f"{whose}/in_turn"] = rows[name][f"{whose}/step_{sequence}"]
    image = next(iter(batches))["image"][: min(images, _TIMED_IMAGES)]
    for name, variant in variants.items():
        plain = replace(variant, guidance=None)
        if plain in variants.values():
            rows[name]["time_ratio"] = _time_ratio(model, variant, plain, image)
    first = next(iter(rows.values()))
    nothing = {k.removeprefix("do_nothing/"): v for k, v in first.items() if "do_nothing/" in k}
    return {"do nothing": nothing, **rows}


def _time_ratio(
    model: CounterfactualModule, variant: Sampling, plain: Sampling, image: Tensor
) -> float:
    """Least sampling time of either; the two take turns, so that a busy machine slows both."""
    if variant == plain:
        return 1.0
    nothing = Intervention.none(image.new_zeros(len(image), len(model.graph)))
    worlds = [model.method(sampling).abduct(image) for sampling in (variant, plain)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED_TURNS):
        for world, taken in zip(worlds, times, strict=True):
            started = time.perf_counter()
            world.predict(nothing)
            taken.append(time.perf_counter() - started)
    return min(times[0]) / min(times[1])


def as_markdown(rows: dict[str, dict[str, float]]) -> str:
    """The rows as a markdown table of what was measured; a dash where one row lacks it."""
    columns = {t: c for t, c in _COLUMNS.items() if any(c[0] in row for row in rows.values())}
    cells = [
        [name, *(format(row[key], spec) if key in row else "–" for key, spec in columns.values())]
        for name, row in rows.items()
    ]
    return markdown(["variant", *columns], cells)
