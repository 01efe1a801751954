"""Ablation of sampling: one checkpoint, one set of interventions, many ways to sample.

``diffcf ablate CKPT --config experiments/ablations/guidance.yaml`` measures every named variant on
the same held-out images and writes ``ablation.json`` and ``ablation.md``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, seed_everything
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from diffcf.api import load
from diffcf.causal import Intervention
from diffcf.commands.speed.timing import Call, seconds
from diffcf.evaluation import CounterfactualEvaluation, EvaluationProtocol
from diffcf.io import CheckpointError, device_name, versions, write_json, write_text
from diffcf.methods import CounterfactualModule, Method, Sampling, World
from diffcf.reporting import ablation_markdown
from diffcf.training import Batch, FactorData, sampling_record

Rows = dict[str, dict[str, float]]
"""Metrics by variant."""

GIVEN = "factors given"
_TIMED_IMAGES, _TIMED_ROUNDS = 16, 3


@dataclass(frozen=True)
class Setup:
    """What is the same for every variant; the command's options of these names say more."""

    images: int
    seed: int
    sequence: int
    read: bool
    split: Literal["test", "val"]


def ablation_parser() -> ArgumentParser:
    """What ``diffcf ablate`` takes."""
    parser = ArgumentParser(prog="diffcf ablate", description="Compare ways to sample.")
    parser.add_argument("--config", action="config", help="YAML file with the arguments below.")
    parser.add_argument("ckpt", type=str, help="Checkpoint, weights file or shipped name.")
    parser.add_argument("--data", type=LightningDataModule, help="Data module with a scene.")
    parser.add_argument("--variants", type=dict[str, Sampling], help="Rows by name.")
    parser.add_argument("--images", type=int, default=128, help="The first of the split.")
    parser.add_argument(
        "--split",
        type=Literal["test", "val"],
        default="test",
        help="Where they are from; choose settings by those of val.",
    )
    parser.add_argument(
        "--sequence",
        type=int,
        default=0,
        help="Interventions one after another, each upon the image the last left; 0 for none.",
    )
    parser.add_argument(
        "--read", type=bool, default=False, help="Read the factual's factors off its image."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the interventions.")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="Folder to write.")
    return parser


def ablate(args: Sequence[str]) -> None:
    """Command ``diffcf ablate``; ``--help`` lists the arguments."""
    parser = ablation_parser()
    built = parser.instantiate_classes(parser.parse_args(list(args)))
    if built.data is None or not built.variants:
        parser.error("name --data and --variants, or a --config that does")
    started = time.perf_counter()
    model = load(built.ckpt).module
    if model.graph != built.data.graph:
        raise CheckpointError(f"Checkpoint {built.ckpt} belongs to another graph, {model.graph}.")
    seed_everything(built.seed, verbose=False)
    setup = Setup(built.images, built.seed, built.sequence, built.read, built.split)
    rows = measure(model, built.data, built.variants, setup)
    record = {
        "rows": rows,
        "variants": {name: sampling_record(variant) for name, variant in built.variants.items()},
        "provenance": {
            "checkpoint": Path(built.ckpt).name,
            "training": model.training_record.as_dict(),
            **vars(setup),
            "device": device_name(model.device),
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        },
    }
    write_json(record, built.out / "ablation.json")
    text = ablation_markdown(rows)
    write_text(text, built.out / "ablation.md")
    print(text)


class _WithoutFactors:
    """A method that is never given the factual's factors, and so has to read them."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> World:
        return self.method.abduct(image)


def measure(
    model: CounterfactualModule, data: FactorData, variants: Mapping[str, Sampling], setup: Setup
) -> Rows:
    """Metrics of every variant on the first images of the split, and those of doing nothing.

    ``time_ratio`` is the sampling time over that of the unguided variant with the same steps and
    depth; it is left out where there is none. ``acm/sequence`` and ``psnr/sequence`` are those of the
    last intervention of a sequence. Where factors are read, the first variant is measured once more
    with the factors given.
    """
    data.setup()
    methods: dict[str, Method] = {name: model.method(variant) for name, variant in variants.items()}
    if setup.read:
        given = next(iter(methods.values()))
        methods = {name: _WithoutFactors(method) for name, method in methods.items()}
        methods[GIVEN] = given
    rows = {
        name: _metrics(model, data, method, setup)
        for name, method in track(methods.items(), description="ablation")
    }
    image = next(iter(_loader(data, setup)))["image"][: min(setup.images, _TIMED_IMAGES)]
    for name, variant in variants.items():
        plain = replace(variant, guidance=None)
        if plain in variants.values():
            rows[name]["time_ratio"] = _time_ratio(model, variant, plain, image)
    first = next(iter(rows.values()))
    nothing = {k.removeprefix("do_nothing/"): v for k, v in first.items() if "do_nothing/" in k}
    return {"do nothing": nothing, **rows}


def _loader(data: FactorData, setup: Setup) -> DataLoader[Batch]:
    return data.val_dataloader() if setup.split == "val" else data.test_dataloader()


def _metrics(
    model: CounterfactualModule, data: FactorData, method: Method, setup: Setup
) -> dict[str, float]:
    protocol = EvaluationProtocol(
        images=setup.images, steps=setup.sequence, cycles=0, reverse_images=0, seed=setup.seed
    )
    factors, noise = data.factors_of(setup.split), data.noise_of(setup.split)
    evaluation = CounterfactualEvaluation(model.graph, factors, protocol, data.scene, noise)
    for batch in _loader(data, setup):
        keep = batch["index"] < setup.images
        if keep.any():
            evaluation.update(method, batch["image"][keep], batch["index"][keep])
    metrics = evaluation.compute()
    if setup.sequence:
        for name in ("acm", "psnr", "do_nothing/acm", "do_nothing/psnr"):
            metrics[f"{name}/sequence"] = metrics[f"{name}/step_{setup.sequence}"]
    return metrics


def _time_ratio(
    model: CounterfactualModule, variant: Sampling, plain: Sampling, image: Tensor
) -> float:
    """Least sampling time of the variant over that of the plain one."""
    if variant == plain:
        return 1.0
    nothing = Intervention.none(image.new_zeros(len(image), len(model.graph)))
    turns: dict[str, Call] = {
        name: partial(model.method(sampling).abduct(image).predict, nothing)
        for name, sampling in (("variant", variant), ("plain", plain))
    }
    taken = seconds(turns, _TIMED_ROUNDS, image.device)
    return min(taken["variant"]) / min(taken["plain"])
