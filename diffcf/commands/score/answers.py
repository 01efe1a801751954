"""Answers in files as a method: what evaluation asks of it is looked up instead of drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Intervention, Reader, Scene
from diffcf.commands.score.task import Task, answer_name, questions
from diffcf.evaluation import Answered
from diffcf.io import FORMATS, DataError, UnusableImage, from_bytes, open_image, to_bytes
from diffcf.methods import Counterfactual, World

SUFFIXES = {".png", ".jpg", ".jpeg", *(f".{name.lower()}" for name in FORMATS), ".tif"}
DEPTH, HEADER = 24, 25  # place of a PNG's bits a channel, and the bytes up to there
ALPHA = ("RGBA", "LA", "PA")


class Answers:
    """The answers to a task in a folder, each checked but not decoded yet.

    Attributes:
        answered: which questions have one.
        given: by factor set, and under "" with nothing set, how many have one, of how many.

    Raises:
        DataError: in one sentence, for a folder that is missing or has no answer, a picture whose
            name is no answer's, and one that is no 8-bit PNG of the task's size without alpha.
    """

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder, self.task, self.graph = folder, task, task.graph
        if not folder.is_dir():
            raise DataError(f"Folder {folder} does not exist: name the folder of the answers.")
        names = {question.answer for question in questions(task.graph, task.plan)}
        files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != "."]
        self.names = {file.name for file in files} & names
        if others := sorted(file.name for file in files if file.name not in names):
            more = f" and {len(others) - 1} more files" if len(others) > 1 else ""
            raise DataError(
                f"{folder} holds {others[0]}{more}, which no question asks for: name each answer "
                "as its row of task.csv says."
            )
        if not self.names:
            raise DataError(
                f"{folder} has none of the {len(names)} answers that task.csv asks for: write them "
                "there, each under the name in its row."
            )
        for name in sorted(self.names):
            _check_answer(folder / name, task.size, task.channels)
        rows = range(task.images)
        self.answered: Answered = {
            factor: torch.tensor([answer_name(row, factor) in self.names for row in rows])
            for factor in ("", *task.plan.single)
        }
        asked = {"": task.plan.null} | {k: do.mask.any(dim=1) for k, do in task.plan.single.items()}
        self.given = {
            factor: {"given": int(self.answered[factor].sum()), "asked": int(mask.sum())}
            for factor, mask in asked.items()
        }

    @property
    def rows(self) -> Tensor:
        """The images with any answer, int64."""
        return torch.stack(list(self.answered.values())).any(dim=0).nonzero()[:, 0]

    def method(self, rows: Tensor, reader: Reader | None = None) -> FiledMethod:
        """These answers as a method for the batch of images ``rows`` ``[B]``.

        Where nobody knows what effects should be, ``reader`` takes them off the answers.
        """
        return FiledMethod(self, rows, reader)

    def images(self, factuals: Tensor, rows: Tensor, factors: Sequence[str]) -> Tensor:
        """The answers about ``rows``, in each of which one of ``factors``, or "", is set.

        Where there is none, the factual of ``factuals`` ``[B, C, S, S]`` in [-1, 1].
        """
        images = factuals.clone()
        named = [answer_name(row, name) for row, name in zip(rows.tolist(), factors, strict=True)]
        known = [place for place, name in enumerate(named) if name in self.names]
        if known:
            pixels = self.task.pixels([self.folder / named[place] for place in known])
            images[known] = from_bytes(pixels).to(images)
        return images


@dataclass(frozen=True)
class FiledMethod:
    """The answers about one batch, as a :class:`diffcf.methods.Method`."""

    answers: Answers
    rows: Tensor
    reader: Reader | None

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> FiledWorld:
        """The world of the batch's images ``[B, C, S, S]`` and factors ``[B, K]``."""
        if factors is None or len(factors) != len(self.rows):
            raise ValueError(
                "Answers in files are about the images of a task, whose factors count."
            )
        return FiledWorld(self.answers.graph, image, factors, None, self)


@dataclass(frozen=True)
class FiledWorld(World):
    """The images of a batch, about which the answers lie in files."""

    method: FiledMethod

    def target(self, do: Intervention) -> Tensor:
        """What was set, and the rest as it was; effects as they read off the answer, if read."""
        told = torch.where(do.mask, do.values, self.factors)
        if self.method.reader is None:
            return told
        read = self.graph.snap(self.method.reader.read(self._images(do)))
        moved = self.graph.reached(do.mask) & ~do.mask
        return torch.where(moved, read, told)

    def in_range(self, target: Tensor) -> tuple[Tensor, Tensor]:
        # Nothing here draws by it.
        return target, torch.zeros_like(target, dtype=torch.bool)

    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        return Counterfactual(self._images(do), target, do)

    def reabduct(self, answer: Counterfactual) -> World:
        raise NotImplementedError("Answers in files are to one intervention each.")

    def _images(self, do: Intervention) -> Tensor:
        names = self.graph.names
        columns = do.mask.float().argmax(dim=1).tolist()
        is_set = do.mask.any(dim=1).tolist()
        factors = [names[k] if some else "" for k, some in zip(columns, is_set, strict=True)]
        return self.method.answers.images(self.image, self.method.rows, factors)


class SavedScene(Scene):
    """A scene whose pictures are as 8-bit files hold them, so that the right answer is exact."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.graph: CausalGraph = scene.graph
        self.noise_names, self.identified = scene.noise_names, scene.identified
        self.image_sizes = scene.image_sizes

    def counterfactual(self, factors: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        return self.scene.counterfactual(factors, values, mask)

    def render(self, factors: Tensor, image_size: int, noise: Tensor | None = None) -> Tensor:
        return from_bytes(to_bytes(self.scene.render(factors, image_size, noise)))

    def read(self, images: Tensor) -> Tensor:
        return self.scene.read(images)

    def reading_error(self, image_size: int) -> dict[str, float]:
        return self.scene.reading_error(image_size)

    def visible(self, factors: Tensor) -> Tensor:
        return self.scene.visible(factors)


def _check_answer(path: Path, size: int, channels: int) -> None:
    """DataError unless a file is an 8-bit PNG of that size, without transparency."""
    wanted = f"save it as {'grey' if channels == 1 else 'RGB'} PNG of 8 bits a channel"
    problem = ""
    try:
        with open_image(path, ("PNG",)) as picture:
            with path.open("rb") as file:  # Pillow makes 8 bits of 16 without a word
                depth = file.read(HEADER)[DEPTH]
            if picture.size != (size, size):
                found = f"{picture.width} × {picture.height}"
                problem = f"has {found} pixels where the task has {size} × {size}"
            elif picture.mode in ALPHA or "transparency" in picture.info:
                problem = "has an alpha channel, of which nobody knows what shows through"
            elif depth > 8:
                problem = f"has values of {depth} bits, beyond the range of 0 to 255"
            elif channels == 1 and picture.mode not in ("L", "1"):
                problem = "is in colour where the task is grey"
    except UnusableImage as error:
        problem = error.problem
    if problem:
        raise DataError(f"Answer {path} {problem}: {wanted}.")
