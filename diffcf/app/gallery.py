"""The images to ask about: held-out ones, those of a folder, and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import Scene, TrueModel
from diffcf.evaluation import ExactMethod, Truth
from diffcf.io import (
    Box,
    DataError,
    GraphError,
    ImageTransform,
    UnusableImage,
    decode,
    decode_bytes,
    from_bytes,
    image_files,
    uncrop,
)
from diffcf.methods import World
from diffcf.training import FactorData, load_data, make_data

MAX_BYTES = 10_000_000  # of an upload
MAX_PIXELS = 25_000_000  # of an upload, decompressed


@dataclass(frozen=True)
class PlacedCrop(ImageTransform):
    """A transform whose square lies elsewhere than in the middle of the picture.

    Attributes:
        across: where, from 0, the left end, to 1, the right.
        down: where, from 0, the top, to 1, the bottom.
    """

    across: float = 0.5
    down: float = 0.5

    def placement(self, width: int, height: int) -> tuple[Box, Box]:
        kept, shown = super().placement(width, height)
        wide, high = kept[2] - kept[0], kept[3] - kept[1]
        left, top = int(self.across * (width - wide)), int(self.down * (height - high))
        return (left, top, left + wide, top + high), shown


@dataclass(frozen=True)
class Subject:
    """An image and what is known about it.

    Attributes:
        image: ``[C, S, S]`` in [-1, 1].
        title: shown with it.
        factors: ``[K]`` in [0, 1] units where they were observed; None has the model read them.
        scene: the true model behind it, such as the scene that rendered it; None for others.
        noise: ``[M]``, the scene's image noise; None where there is none, or it is not known.
        source: the file that the image is a part of, or its content, and how the image was made
            of it; None where there is no file.
    """

    image: Tensor
    title: str
    factors: Tensor | None = None
    scene: TrueModel | None = None
    noise: Tensor | None = None
    source: tuple[Path | bytes, ImageTransform] | None = None

    def whole(self, image: Tensor) -> Image | None:
        """The file's whole picture as ``image`` ``[C, S, S]``, an answer, changes it; None without.

        Raises:
            DataError: when the file can no longer be read.
        """
        if self.source is None:
            return None
        content, transform = self.source
        (picture,) = uncrop(_readable(content), transform, [image])
        return picture

    @property
    def room(self) -> tuple[int, int]:
        """Pixels of the file by which its square can move across and down; DataError as above."""
        if self.source is None:
            return 0, 0
        content, transform = self.source
        try:
            picture = transform.picture(_readable(content))
        except UnusableImage as error:
            raise DataError(f"This file {error.problem}: {error.remedy}.") from None
        (left, top, right, bottom), _ = transform.placement(*picture.size)
        return picture.width - (right - left), picture.height - (bottom - top)

    def placed(self, across: float, down: float) -> Subject:
        """Another square of the same file, as :class:`PlacedCrop` has it; itself without a file.

        Raises:
            DataError: when the file can no longer be read.
        """
        if self.source is None:
            return self
        content, transform = self.source
        known = {each.name: getattr(transform, each.name) for each in fields(ImageTransform)}
        moved = PlacedCrop(**known, across=across, down=down)
        pixels = (
            decode_bytes(content, moved, MAX_PIXELS)
            if isinstance(content, bytes)
            else decode(content, moved, "--images")
        )
        return replace(self, image=from_bytes(pixels), source=(content, moved))

    def exact_world(self) -> World | None:
        """The scene's own world; None where exact counterfactuals cannot be rendered."""
        noise = None if self.noise is None else self.noise[None]
        if not isinstance(self.scene, Scene) or self.factors is None:
            return None
        if not Truth(self.scene, noise).certain:
            return None
        return ExactMethod(self.scene, noise).abduct(self.image[None], self.factors[None])


def _readable(content: Path | bytes) -> Path | BytesIO:
    return BytesIO(content) if isinstance(content, bytes) else content


def from_data(module: FactorData) -> list[Subject]:
    """The test images of a data module that was set up, with their factors."""
    factors, noise = module.factors_of("test"), module.noise_of("test")
    images = module.images_of("test", torch.arange(len(factors)))
    rows = zip(images, factors, [None] * len(factors) if noise is None else noise, strict=True)
    return [
        Subject(image, f"Held-out image {number}", observed, module.scene, its_noise)
        for number, (image, observed, its_noise) in enumerate(rows, start=1)
    ]


def from_folder(folder: Path, transform: ImageTransform, most: int) -> Iterator[Subject]:
    """The first ``most`` images of a folder, by name.

    Raises:
        DataError: when it has none, or naming a file that cannot be used.
    """
    for name, file in list(image_files([folder]).items())[:most]:
        image = from_bytes(decode(file, transform, "--images"))
        yield Subject(image, name, source=(file, transform))


def uploaded(content: bytes, transform: ImageTransform) -> Subject:
    """An image from the bytes of an untrusted file.

    Raises:
        DataError: in one sentence, when it has too many bytes or pixels, or is not an image.
    """
    if len(content) > MAX_BYTES:
        raise DataError(
            f"This file has {len(content) / 1e6:.1f} MB, more than the {MAX_BYTES // 10**6} MB "
            "of an upload: scale it down."
        )
    image = from_bytes(decode_bytes(content, transform, MAX_PIXELS))
    return Subject(image, "Your image", source=(content, transform))


def held_out(
    model: Model, name: str | Path, count: int, config: Path | None = None
) -> FactorData | None:
    """The data module of a model called ``name``, with at most ``count`` images of its test split.

    ``config`` is the YAML of an experiment or of a data module; without it, it is the data that the
    model was trained on, and None where its weights do not name them.

    Raises:
        GraphError: when the data have other factors than the model.
        DataError, FileNotFoundError: when their files are missing.
    """
    spec = model.module.data_spec
    if config is None and spec is None:
        return None
    module = load_data(config) if config else make_data(spec, f"The data of {name}")
    if module.graph.factors != model.graph.factors:
        raise GraphError(
            f"{type(module).__name__} has other factors than {name}: "
            f"{', '.join(module.graph.names)} instead of {', '.join(model.graph.names)}."
        )
    # Only what is shown is loaded. Which images are test images does not depend on these.
    kept = module.sizes["test"]
    module.batch_size = 1
    module.sizes = {"train": 1, "val": 1, "test": count if kept is None else min(kept, count)}
    module.prepare_data()
    module.setup()
    return module
