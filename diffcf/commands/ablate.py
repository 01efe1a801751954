"""Ablation of sampling: one checkpoint, one set of interventions, many ways to sample.

``diffcf ablate CKPT --config experiments/ablations/guidance.yaml`` measures every named variant on
the same held-out images and writes ``ablation.json`` and ``ablation.md``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt
from lightning.pytorch import LightningDataModule, seed_everything
from rich.progress import track
from torch import Tensor

from diffcf.api import load
from diffcf.causal import Intervention
from diffcf.commands.arguments import Seed, add_weights
from diffcf.commands.speed import seconds
from diffcf.evaluation import CounterfactualEvaluation, EvaluationProtocol, EvaluatorReader
from diffcf.io import CheckpointError, check_new, device_name, versions, write_json, write_text
from diffcf.methods import CounterfactualModule, Method, Sampling, World
from diffcf.reporting import ablation_markdown
from diffcf.training import Batch, FactorData, sampling_record

GIVEN = "factors given"
RESULTS = "ablation.json"
_ASKED = ("images", "seed", "sequence", "undone", "read", "split")
_SHOWN = ("acm/roots", "acm/leaves", "kept", "psnr")  # while it runs
_TIMED_IMAGES, _TIMED_ROUNDS = 16, 3


def ablation_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf ablate", description="Compare ways to sample.")
    parser.add_argument("--config", action="config", help="YAML file with the arguments below.")
    add_weights(parser, "ckpt")
    parser.add_argument("--data", type=LightningDataModule, help="Where images are from.")
    parser.add_argument("--variants", type=dict[str, Sampling], help="Rows by name.")
    evaluator = "File of an evaluator, which reads the answers where no scene does, or beside it."
    parser.add_argument("--evaluator", type=str | None, default=None, help=evaluator)
    parser.add_argument("--images", type=int, default=128, help="The first of the split.")
    split = "Where they are from; choose settings by those of val."
    parser.add_argument("--split", type=Literal["test", "val"], default="test", help=split)
    sequence = "Interventions one after another, each upon the image the last left; 0 for none."
    parser.add_argument("--sequence", type=int, default=0, help=sequence)
    undone = "Images of which each intervention is undone; 0 for none."
    parser.add_argument("--undone", type=NonNegativeInt, default=0, help=undone)
    read = "Read the factual's factors off its image."
    parser.add_argument("--read", type=bool, default=False, help=read)
    parser.add_argument("--seed", type=Seed, default=0, help="Seed of the interventions.")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="Folder to write.")
    return parser


def ablate(args: Sequence[str]) -> None:
    """Command ``diffcf ablate``; ``--help`` lists the arguments."""
    parser = ablation_parser()
    built = parser.instantiate_classes(parser.parse_args(list(args)))
    if built.data is None or not built.variants:
        parser.error("name --data and --variants, or a --config that does")
    check_new(built.out / RESULTS)
    started = time.perf_counter()
    model = load(built.ckpt).module
    if model.graph != built.data.graph:
        raise CheckpointError(f"Checkpoint {built.ckpt} belongs to another graph, {model.graph}.")
    reader = None if built.evaluator is None else EvaluatorReader.load(built.evaluator, model.graph)
    seed_everything(built.seed, verbose=False)
    protocol = EvaluationProtocol(
        images=built.images,
        steps=built.sequence,
        cycles=0,
        reverse_images=built.undone,
        seed=built.seed,
    )
    rows = measure(model, built.data, built.variants, protocol, built.split, built.read, reader)
    record = {
        "rows": rows,
        "variants": {name: sampling_record(variant) for name, variant in built.variants.items()},
        "provenance": {
            "checkpoint": Path(built.ckpt).name,
            "training": model.training_record.as_dict(),
            "evaluator": None if reader is None else reader.card.get("training"),
            **{name: built[name] for name in _ASKED},
            "device": device_name(model.device),
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        },
    }
    write_json(record, built.out / RESULTS)
    text = ablation_markdown(rows)
    write_text(text, built.out / "ablation.md")
    print(text)


class _WithoutFactors:
    """A method that is never given the factual's factors, and so has to read them."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> World:
        return self.method.abduct(image, None, keys)


def measure(
    model: CounterfactualModule,
    data: FactorData,
    variants: Mapping[str, Sampling],
    protocol: EvaluationProtocol,
    split: Literal["test", "val"] = "test",
    read: bool = False,
    evaluator: EvaluatorReader | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of every variant on the first images of the split, and those of doing nothing.

    ``time_ratio`` is the sampling time over that of the unguided variant with the same steps and
    depth; it is left out where there is none. ``acm/sequence`` and ``psnr/sequence`` are those of
    the last intervention of a sequence. Without a scene an ``evaluator`` reads. Where factors are
    ``read`` off the factual image, the first variant is measured once more with them given.
    """
    data.setup()
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    asked = data.factors_of(split), protocol, data.scene, data.noise_of(split), evaluator
    methods: dict[str, Method] = {name: model.method(variant) for name, variant in variants.items()}
    if read:
        given = next(iter(methods.values()))
        methods = {name: _WithoutFactors(method) for name, method in methods.items()}
        methods[GIVEN] = given
    rows: dict[str, dict[str, float]] = {}
    for name, method in track(methods.items(), description="ablation"):
        found = _metrics(method, CounterfactualEvaluation(model.graph, *asked), loader)
        rows[name] = found
        # A line for each, so that a log of hours shows how far it is and what it found.
        shown = (f"{key} {found[key]:.4f}" for key in _SHOWN if key in found)
        print(f"{name}: {', '.join(shown)}", flush=True)
    image = next(iter(loader))["image"][: protocol.images][:_TIMED_IMAGES]
    for name, variant in variants.items():
        plain = replace(variant, guidance=None, free=None, feedback=None)
        if plain in variants.values():
            rows[name]["time_ratio"] = _time_ratio(model, variant, plain, image)
    first = next(iter(rows.values()))
    nothing = {k.removeprefix("do_nothing/"): v for k, v in first.items() if "do_nothing/" in k}
    return {"do nothing": nothing, **rows}


def _metrics(
    method: Method, evaluation: CounterfactualEvaluation, loader: Iterable[Batch]
) -> dict[str, float]:
    protocol = evaluation.protocol
    for batch in loader:
        keep = batch["index"] < (protocol.images or torch.inf)
        if keep.any():
            evaluation.update(method, batch["image"][keep], batch["index"][keep])
    metrics = evaluation.compute()
    if protocol.steps:
        for name in ("acm", "psnr", "do_nothing/acm", "do_nothing/psnr"):
            if (last := f"{name}/step_{protocol.steps}") in metrics:
                metrics[f"{name}/sequence"] = metrics[last]
    return metrics


def _time_ratio(
    model: CounterfactualModule, variant: Sampling, plain: Sampling, image: Tensor
) -> float:
    """Least sampling time of the variant over that of the plain one."""
    if variant == plain:
        return 1.0
    nothing = Intervention.none(image.new_zeros(len(image), len(model.graph)))
    worlds = {"variant": model.method(variant).abduct(image)}
    worlds["plain"] = model.method(plain).abduct(image)
    turns = {name: partial(world.predict, nothing) for name, world in worlds.items()}
    taken = seconds(turns, _TIMED_ROUNDS, image.device)
    return min(taken["variant"]) / min(taken["plain"])
