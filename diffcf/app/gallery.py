"""The images to ask about: held-out ones, own ones from a folder, and uploads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import Scene
from diffcf.evaluation import Truth
from diffcf.io import DataError, GraphError, ImageFormat, decode, decode_bytes, image_files
from diffcf.training import load_data, make_data

MAX_BYTES = 10_000_000
"""Of an upload."""
MAX_PIXELS = 25_000_000
"""Of an upload, unfolded."""


@dataclass(frozen=True)
class Subject:
    """An image and what is known of it.

    Attributes:
        image: ``[C, S, S]`` in [-1, 1].
        title: for people.
        factors: ``[K]`` in [0, 1] units where they were observed; None has the model read them.
        scene: the synthetic world that drew it; None for any other image.
        noise: ``[M]``, what it shows beyond its factors; None where there is no such thing.
    """

    image: Tensor
    title: str
    factors: Tensor | None = None
    scene: Scene | None = None
    noise: Tensor | None = None

    @property
    def has_exact(self) -> bool:
        """Whether its exact counterfactuals can be drawn."""
        noise = None if self.noise is None else self.noise[None]
        return self.factors is not None and Truth(self.scene, noise).certain


def from_data(module: Any) -> list[Subject]:
    """The test images of a data module that was set up, with their factors."""
    factors, noise = module.factors_of("test"), module.noise_of("test")
    images = module.images_of("test", torch.arange(len(factors)))
    return [
        Subject(
            images[row],
            f"Held-out image {row + 1}",
            factors[row],
            module.scene,
            None if noise is None else noise[row],
        )
        for row in range(len(factors))
    ]


def from_folder(folder: Path, form: ImageFormat, most: int) -> Iterator[Subject]:
    """The first ``most`` pictures of a folder, by name.

    Raises:
        FileNotFoundError: when it has none.
        DataError: naming a file that cannot be used.
    """
    for name, file in list(image_files([folder]).items())[:most]:
        yield Subject(_scaled(decode(file, form, "--images")), name)


def uploaded(content: bytes, form: ImageFormat) -> Subject:
    """An image from the bytes of an untrusted file.

    Raises:
        DataError: in one sentence, when there are too many bytes or pixels, or it is no picture.
    """
    if len(content) > MAX_BYTES:
        raise DataError(
            f"This file has {len(content) / 1e6:.1f} MB, more than the {MAX_BYTES // 10**6} MB "
            "of an upload: scale it down."
        )
    return Subject(_scaled(decode_bytes(content, form, MAX_PIXELS)), "Your image")


def _scaled(pixels: Any) -> Tensor:
    return torch.from_numpy(pixels.copy()).float() / 127.5 - 1


def held_out(model: Model, name: str | Path, count: int, config: Path | None = None) -> Any | None:
    """A data module of ours with ``count`` test images in memory, at most.

    Args:
        model: that was trained on it, or on its like.
        name: of the model, as :func:`diffcf.load` takes it.
        count: images of its test split to load, a seeded subset.
        config: YAML of an experiment or of a data module; None for what the weights say.

    Returns:
        None where the weights do not say what they were trained on.

    Raises:
        GraphError: when the data has other factors than the model.
        DataError, FileNotFoundError: when its files are not where they were.
    """
    if config is not None:
        module = load_data(config)
    else:
        spec = model.module.data_spec
        if spec is None:
            return None
        module = make_data(spec, f"The data of {name}")
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
