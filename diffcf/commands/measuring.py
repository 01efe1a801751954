"""What commands that measure a model share: its data, exact answers about them, and records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from diffcf.api import Model
from diffcf.causal import Scene
from diffcf.evaluation import ExactMethod, ReferenceWorld
from diffcf.io import (
    CheckpointError,
    DataError,
    SettingsError,
    device_name,
    public,
    versions,
    whole_folder,
    write_json,
    write_text,
)
from diffcf.methods import weights_digest
from diffcf.training import FactorData, load_data

SPLIT = "test"


def model_data(model: Model, config: Path) -> FactorData:
    """The data that a YAML describes, set up, whose images are as the model takes them.

    Raises:
        CheckpointError: for data of another graph than the model's.
        DataError: for images of another form than the model's.
    """
    data = load_data(config)
    if data.graph != model.graph:
        raise CheckpointError(
            f"The model belongs to another graph, {model.graph}, than {config}: name its data."
        )
    data.prepare_data()
    data.setup()
    found = tuple(data.images_of(SPLIT, torch.tensor([0])).shape[1:])
    shape = model.module.image_shape
    if shape is not None and found != tuple(shape):
        raise DataError(
            f"Images of {config} are {list(found)}, and the model draws {list(shape)}: set "
            "image_size and channels of the data."
        )
    return data


def exact_scene(data: FactorData, config: Path) -> Scene:
    """The scene that drew the data; SettingsError where there are no exact counterfactuals."""
    if not isinstance(data.scene, Scene) or not data.scene.identified:
        raise SettingsError(
            f"No scene knows exact counterfactuals of {config}: name data such as Pendulum's."
        )
    return data.scene


def exact_worlds(
    data: FactorData, scene: Scene, split: str, rows: Tensor, batch_size: int
) -> Iterator[ReferenceWorld]:
    """The worlds of a split's ``rows`` by the scene's true model, in batches."""
    factors, noise = data.factors_of(split), data.noise_of(split)
    for some in rows.split(batch_size):
        method = ExactMethod(scene, None if noise is None else noise[some])
        yield method.abduct(data.images_of(split, some).float(), factors[some])


def provenance(
    model: Model, parsed: Namespace, asked: Sequence[str], started: float
) -> dict[str, Any]:
    """Where numbers come from, without folders of this machine.

    ``asked`` names the arguments to keep; ``started`` is a :func:`time.perf_counter`.
    """
    return public(
        {
            **{name: _plain(parsed[name]) for name in asked},
            "weights' content": weights_digest(model.module),
            "device": device_name(model.device),
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        }
    )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def write_measured(record: dict[str, Any], table: str, name: str, out: Path) -> None:
    """Write ``<name>.json`` and ``<name>.md`` to the new folder ``out``, and print the table."""
    with whole_folder(out) as folder:
        write_json(record, folder / f"{name}.json")
        write_text(table, folder / f"{name}.md")
    print(table)
    print(f"{name}.json and {name}.md are in {out}")
