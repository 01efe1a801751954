"""``diffcf augment WEIGHTS CONFIG OUT``: a copy of a data set, extended by counterfactuals.

``--balance FACTOR,FACTOR`` makes all combinations of these factors' levels equally frequent in the
training split, ``--times N`` adds N counterfactuals of every training image in each of which one
factor was set at random. The folder is one of ``diffcf export``, whose table has two more columns:
``source``, the image that a counterfactual is of, and ``intervened``, what was set in it.
``--measure FACTOR`` makes no copy: it says what such counterfactuals are worth to a classifier
(:mod:`diffcf.commands.augment.measure`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from rich.progress import track
from torch import Tensor

from diffcf.api import Model, load
from diffcf.causal import CausalGraph, Factor, Intervention, intervened_of
from diffcf.commands.arguments import Seed, add_batch_size, add_device, add_weights
from diffcf.commands.augment.measure import measured, measured_table
from diffcf.commands.augment.plan import Additions, at_random, balanced, balanced_columns
from diffcf.commands.dataset_folder import DatasetFolder, dataset_folder, set_cell
from diffcf.commands.measuring import model_data, provenance, write_measured
from diffcf.io import (
    SettingsError,
    check_new,
    public,
    versions,
    whole_folder,
    write_json,
)
from diffcf.methods import weights_digest
from diffcf.training import FactorData

TRAIN, SPLITS = "train", ("train", "val", "test")


def augment(args: Sequence[str]) -> None:
    """Command ``diffcf augment``; ``--help`` lists the arguments.

    Raises:
        SettingsError: for arguments that do not fit together.
        OutputError: when the folder exists: nothing is overwritten.
    """
    parsed = _parser().parse_args(list(args))
    _check_arguments(parsed)
    check_new(parsed.out, "OUT")
    model = load(parsed.weights, parsed.device)
    if parsed.measure is not None:
        _measure(model, parsed)
        return
    label = None if parsed.folders is None else _label(model.graph, parsed.folders)
    data, additions = _planned(model, parsed)
    with whole_folder(parsed.out) as folder:
        with dataset_folder(folder, data.graph, ["split", "source", "intervened"]) as written:
            copy = _Copy(model, data, written, label)
            copy.factuals()
            copied = written.count
            untaught = copy.counterfactuals(additions, parsed.batch_size, parsed.seed)
        record = _record(model, parsed, copied, written.count - copied, untaught)
        write_json(record, folder / "augment.json")
    if untaught:
        print(
            f"Warning: of {untaught} counterfactuals the training data do not teach a change: the "
            "picture may not show it, and its label is left empty.",
            file=sys.stderr,
        )
    made = written.count - copied
    print(f"{copied} images, {made} counterfactuals, factors.csv and graph.yaml: {parsed.out}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="diffcf augment", description="Extend data by counterfactuals.")
    add_weights(parser)
    parser.add_argument("config", type=Path, help="YAML of an experiment, or of a data module.")
    parser.add_argument("out", type=Path, help="Folder to make.")
    balance = "Factors, parted by commas, whose combinations are to be equally frequent."
    parser.add_argument("--balance", type=str, help=balance)
    parser.add_argument("--times", type=PositiveInt, help="Counterfactuals of each image.")
    folders = "Sort images into class folders by this factor: images/<split>/<class>/."
    parser.add_argument("--folders", type=str, help=folders)
    measure = "Measure instead, on a scene, what counterfactuals help a classifier of this factor."
    parser.add_argument("--measure", type=str, help=measure)
    parser.add_argument("--count", type=PositiveInt, help="--measure: images of a split; or all.")
    steps = "--measure: batches of 64 that a classifier is trained on."
    parser.add_argument("--steps", type=PositiveInt, default=1500, help=steps)
    parser.add_argument("--seeds", type=PositiveInt, default=3, help="--measure: classifiers.")
    parser.add_argument("--seed", type=Seed, default=0, help="Of all that is drawn.")
    add_batch_size(parser)
    add_device(parser)
    return parser


def _check_arguments(parsed: Namespace) -> None:
    if sum(parsed[name] is not None for name in ("balance", "times", "measure")) != 1:
        raise SettingsError(
            "Say how to extend the data, by --balance FACTOR,FACTOR or --times N, or --measure "
            "FACTOR: one of the three."
        )
    if parsed.measure is not None and parsed.folders is not None:
        raise SettingsError("--measure makes no copy of the data: leave --folders out.")


def _measure(model: Model, parsed: Namespace) -> None:
    started = time.perf_counter()
    data = model_data(model, parsed.config)
    record = measured(model, data, parsed)
    asked = ("weights", "seed", "seeds", "count", "config")
    record["provenance"] = provenance(model, parsed, asked, started)
    write_measured(record, measured_table(record), "augment", parsed.out)
    closed = ("no gap" if share is None else f"{share:.2f}" for share in record["closed"])
    print(f"Share of the gap closed, by seed: {', '.join(closed)}.")


def _label(graph: CausalGraph, name: str) -> int:
    """The column of a factor that can name folders; SettingsError for others."""
    column = graph.column(name)
    factor = graph.factors[column]
    if factor.kind == "continuous":
        raise SettingsError(f"--folders {name} is a number: name a factor that has levels.")
    for category in factor.categories:
        if Path(category).name != category:
            raise SettingsError(f"--folders {name}: its category {category!r} names no folder.")
    return column


def _planned(model: Model, parsed: Namespace) -> tuple[FactorData, Additions]:
    """The data, set up, and the counterfactuals to add to their training images."""
    names = [name.strip() for name in (parsed.balance or "").split(",")]
    if parsed.balance is not None:
        balanced_columns(model.graph, names)  # before the data are decoded
    data = model_data(model, parsed.config)
    drawn, factors = torch.Generator().manual_seed(parsed.seed), data.factors_of(TRAIN)
    if parsed.times is None:
        return data, balanced(data.graph, factors, names, drawn)
    return data, at_random(data.graph, len(factors), parsed.times, drawn)


class _Copy:
    """A data set on its way into a folder; ``label`` is the column that names class folders."""

    def __init__(
        self, model: Model, data: FactorData, written: DatasetFolder, label: int | None
    ) -> None:
        self.model, self.data, self.written, self.label = model, data, written, label
        self.names: list[str] = []  # of the training images

    def factuals(self) -> None:
        """Add all images as they are."""
        for split in SPLITS:
            factors, by_hand = self.data.factors_of(split), intervened_of(self.data, split)
            for row in track(range(len(factors)), description=split):
                image = self.data.images_of(split, torch.tensor([row]))[0]
                is_set = "" if by_hand is None else set_cell(self.data.graph, by_hand[row])
                name = self._add(image, factors[row], split, "", is_set)
                if split == TRAIN:
                    self.names.append(name)

    def counterfactuals(self, additions: Additions, batch_size: int, seed: int) -> int:
        """Add counterfactuals; of how many the picture may not show a change.

        They have the factors that the causal model predicts. What was set in a factual by somebody
        counts as set in its counterfactuals, too.
        """
        graph, untaught = self.data.graph, 0
        factors, by_hand = self.data.factors_of(TRAIN), intervened_of(self.data, TRAIN)
        starts = range(0, len(additions.source), batch_size)
        for start in track(starts, description="counterfactuals"):
            rows = additions.source[start : start + batch_size]
            do = additions.do.rows(slice(start, start + batch_size))
            images, is_set = self.data.images_of(TRAIN, rows).float(), do.mask
            image, target, unsure = self._answers(images, factors[rows], do, seed)
            target = torch.where(unsure, torch.nan, target)
            untaught += int(unsure.any(dim=1).sum())
            is_set = is_set if by_hand is None else is_set | by_hand[rows]
            for k, row in enumerate(rows.tolist()):
                cells = TRAIN, self.names[row], set_cell(graph, is_set[k])
                self._add(image[k], target[k], *cells)
        return untaught

    def _answers(
        self, images: Tensor, factors: Tensor, do: Intervention, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, their factors, and which of these changes the training data do not teach."""
        model = self.model
        # Only a factor that is not known is read.
        known = None if factors.isnan().all() else factors
        answer = model.abduct(images, known, seed=seed).world.predict(do.to(model.device))
        unsure = answer.undetermined
        if unsure is None or model.sampling.undetermined == "draw":
            unsure = torch.zeros_like(do.mask)
        return answer.image.cpu(), model.graph.whole(answer.factors).cpu(), unsure.cpu()

    def _add(self, image: Tensor, factors: Tensor, split: str, source: str, is_set: str) -> str:
        below = "" if self.label is None else _folder(self.data.graph, factors, self.label, split)
        return self.written.add(image, factors, (split, source, is_set), below)


def _folder(graph: CausalGraph, factors: Tensor, column: int, split: str) -> str:
    """``<split>/<class>``; of an image whose class is not known, outside the split's folder."""
    factor: Factor = graph.factors[column]
    value = float(factors[column])
    return f"unlabelled/{split}" if value != value else f"{split}/{factor.text(value)}"


def _record(
    model: Model, parsed: Namespace, copied: int, made: int, untaught: int
) -> dict[str, Any]:
    """What was asked and done, without folders of this machine."""
    asked = {name: parsed[name] for name in ("weights", "balance", "times", "folders", "seed")}
    return public(
        {
            **asked,
            "config": str(parsed.config),
            "weights' content": weights_digest(model.module),
            "images": copied,
            "counterfactuals": made,
            "undetermined": untaught,
            "versions": versions(),
        }
    )
