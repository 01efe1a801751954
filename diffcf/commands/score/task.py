"""A task for a program that is not ours: a folder of images and of questions about them.

::

    task/
      README.md       what to do, in plain words
      factuals/*.png  the images, named by their row in the test split
      task.csv        a question a row: image, factor set, its value in native units, file to write
      factors.csv     the factual factors of every image, in native units
      graph.yaml      the factors' kinds and ranges, and which causes which
      task.json       the data, the protocol, and digests of the other files

The questions are the single interventions of an evaluation protocol on the test split. What is
right is not in the folder: it follows from the data that ``task.json`` names.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_modules.scenes import CartoonFaces
from diffcf.causal import CausalGraph, Factor
from diffcf.evaluation import EvaluationProtocol, InterventionPlan
from diffcf.io import (
    DataError,
    ImageTransform,
    ResultsError,
    decode,
    file_digest,
    from_bytes,
    parse_number,
    to_bytes,
)
from diffcf.reporting import TASK, read_json
from diffcf.training import FactorData, make_data

SPLIT = "test"
RECORD, QUESTIONS, FACTORS, GRAPH, FACTUALS = (
    "task.json", "task.csv", "factors.csv", "graph.yaml", "factuals",
)  # fmt: skip
COLUMNS = ("image", "factor", "value", "answer")
NEAR = 1e-4  # of a factor's range: arithmetic that differs between machines
LEVELS = 2  # of 256: likewise, of a drawing


def _faces() -> dict[str, Any]:
    """The cartoon faces of ``experiments/celeba_smile_sample.yaml``."""
    graph = CartoonFaces("smile").graph
    described = {
        "factors": [{"name": factor.name, "kind": factor.kind} for factor in graph.factors],
        "edges": [list(edge) for edge in graph.edges],
    }
    return {
        "root": "data/faces",
        "graph": {"class_path": "diffcf.causal.CausalGraph", "init_args": described},
        "scene": {
            "class_path": "data_modules.scenes.CartoonFaces",
            "init_args": {"graph": "smile"},
        },
        "crop": 148,
    }


DATASETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pendulum": ("pendulum", "data_modules.PendulumDataModule", {}),
    "flow": ("flow", "data_modules.FlowDataModule", {}),
    "shadow_sunlight": ("shadow_sunlight", "data_modules.SunlightDataModule", {}),
    "shadow_pointlight": ("shadow_pointlight", "data_modules.PointlightDataModule", {}),
    "faces": ("celeba_smile_sample", "data_modules.CelebADataModule", _faces()),
}
"""By the name that ``--make`` takes: that of the results, the data module, and its arguments."""


@dataclass(frozen=True)
class Question:
    """One row of ``task.csv``: ``value`` is in native units; without a factor nothing is set."""

    image: str
    factor: str
    value: str
    answer: str


def questions(graph: CausalGraph, plan: InterventionPlan) -> Iterator[Question]:
    """Every question of a plan, image by image, the null one first."""
    for row in range(len(plan.factors)):
        yield Question(factual_name(row), "", "", answer_name(row))
        for name, do in plan.single.items():
            column = graph.column(name)
            if do.mask[row, column]:
                value = graph.factors[column].written(float(do.values[row, column]))
                yield Question(factual_name(row), name, str(value), answer_name(row, name))


def factual_name(row: int) -> str:
    return f"{FACTUALS}/{row:06d}.png"


def answer_name(row: int, factor: str = "") -> str:
    """The file to write where ``factor`` was set, or nothing."""
    return f"{row:06d}_{factor}.png" if factor else f"{row:06d}.png"


def set_up(spec: Mapping[str, Any], origin: str, training: bool = True) -> FactorData:
    """The data module of a description, loaded.

    Without ``training``, the built-in ones draw next to nothing of the other splits, which changes
    nothing in the test images.
    """
    built_in = spec.get("class_path") in {path for _, path, _ in DATASETS.values()}
    if built_in and not training:
        few = {"batch_size": 1, "train_size": 1, "val_size": 1}
        spec = {**spec, "init_args": {**(spec.get("init_args") or {}), **few}}
    data = make_data(spec, origin)
    data.prepare_data()
    data.setup()
    return data


def digest_of(record: Mapping[str, object]) -> str:
    """SHA-256 of what ``task.json`` holds beside the digest itself."""
    rest = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class Task:
    """A task that was made before, with the data it was made of.

    Attributes:
        record: what ``task.json`` holds.
        protocol: what is asked.
        data: the data module, loaded.

    Args:
        folder: of the task.
        training: whether the training split is needed as well.

    Raises:
        ResultsError: when the folder holds no task, or another one than was made.
        DataError: when the data are no longer those that it was made of.
    """

    def __init__(self, folder: Path, training: bool = False) -> None:
        self.folder = folder
        path = folder / RECORD
        self.record = read_json(path, TASK, "diffcf score --make")
        self._check_unedited()
        asked: dict[str, Any] = self.record["protocol"]
        try:
            self.protocol = EvaluationProtocol(**{**asked, "readers": tuple(asked["readers"])})
        except (TypeError, KeyError):
            raise ResultsError(
                f"{path} was made by another version of diffcf: make the task anew."
            ) from None
        self.data = set_up(self.record["data"], str(path), training)
        if (size := self.data.size_of(SPLIT)) != self.images:
            raise DataError(
                f"The data of {path} now have {size} {SPLIT} images where the task has "
                f"{self.images}: put them back as they were, or make the task anew."
            )
        self._check_questions()

    @property
    def graph(self) -> CausalGraph:
        return self.data.graph

    @property
    def images(self) -> int:
        return int(self.record["images"])

    @property
    def channels(self) -> int:
        return int(self.record["channels"])

    @property
    def size(self) -> int:
        return int(self.record["size"])

    @cached_property
    def plan(self) -> InterventionPlan:
        """Every question of the task."""
        factors = self.data.factors_of(SPLIT)
        return InterventionPlan.of(self.graph, factors, self.protocol, self.data.scene)

    def factuals(self, rows: Tensor) -> Tensor:
        """The images ``[B, C, S, S]`` in [-1, 1] of some rows, as in the files.

        DataError when the data show others.
        """
        files = [self.folder / factual_name(row) for row in rows.tolist()]
        saved = self.pixels(files)
        shown = to_bytes(self.data.images_of(SPLIT, rows))
        far = (saved.int() - shown.int()).abs().flatten(1).amax(dim=1) > LEVELS
        if far.any():
            raise DataError(
                f"The data of {self.folder / RECORD} no longer show {files[int(far.nonzero()[0])]}:"
                " put them back as they were, or make the task anew."
            )
        return from_bytes(saved)

    def pixels(self, files: Sequence[Path]) -> Tensor:
        """Pictures of the task's size, uint8 ``[B, C, S, S]``; DataError for a broken file."""
        whole = ImageTransform(self.size, channels=self.channels)
        return torch.from_numpy(np.stack([decode(file, whole) for file in files]))

    def _check_unedited(self) -> None:
        """ResultsError unless all files are as they were made."""
        # As it is written: reading renames classes that have moved since.
        written = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        edited = [] if digest_of(written) == written["digest"] else [RECORD]
        for name, digest in written["files"].items():
            path = self.folder / name
            if not path.is_file() or file_digest(path) != digest:
                edited.append(name)
        if edited:
            more = f" and {len(edited) - 1} more" if len(edited) > 1 else ""
            raise ResultsError(
                f"The task in {self.folder} is no longer as it was made ({edited[0]}{more} "
                "differs): put it back, or make the task anew."
            )

    def _check_questions(self) -> None:
        """DataError unless the data give the questions that the task asks."""
        with (self.folder / QUESTIONS).open(newline="", encoding="utf-8") as file:
            asked = [Question(**row) for row in csv.DictReader(file)]
        now = list(questions(self.graph, self.plan))
        same = [question.answer for question in asked] == [question.answer for question in now]
        if not same or not all(map(self._same_value, asked, now)):
            raise DataError(
                f"The data of {self.folder / RECORD} now give other questions than "
                f"{self.folder / QUESTIONS} asks: make the task anew."
            )

    def _same_value(self, asked: Question, now: Question) -> bool:
        if asked.value == now.value:
            return True
        factor = self.graph.factors[self.graph.column(asked.factor)]
        return abs(_scaled(factor, asked.value) - _scaled(factor, now.value)) <= NEAR


def _scaled(factor: Factor, value: str) -> float:
    return factor.scaled(value) if factor.categories else factor.to_scaled(parse_number(value))
