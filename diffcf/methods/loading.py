"""Methods from their checkpoints and weights files, and weights files from methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from diffcf.io import CheckpointError, class_at, public, write_tensors
from diffcf.methods.base import CounterfactualModule
from diffcf.methods.checkpoint import (
    SAMPLING,
    building,
    read_trained,
    sampling_to_spec,
    spec_of,
)
from diffcf.methods.sampling import Sampling

LARGEST_SIDE = 8192  # of an image in a description, in pixels


def load_method(path: str | Path, map_location: str | torch.device = "cpu") -> CounterfactualModule:
    """The trained method of a checkpoint or weights file, or CheckpointError."""
    return method_of(read_trained(path, map_location), path, map_location)


def method_of(
    checkpoint: Mapping[str, object], path: str | Path, map_location: str | torch.device = "cpu"
) -> CounterfactualModule:
    """The trained method of a checkpoint that was read already; ``path`` is for messages.

    Raises:
        CheckpointError: when there is no such method, it does not take this description, asks for
            far more memory than its weights take, or has other weights.
    """
    spec, weights = spec_of(checkpoint, str(path)), checkpoint.get("state_dict")
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds no weights.")
    name = str(spec.get("method", "diffcf.methods.DiffusionCounterfactuals"))
    try:
        method = class_at(name, CounterfactualModule)  # type: ignore[type-abstract]
    except ValueError as error:
        raise CheckpointError(
            f"{path} names a method that is not here: {error}. Install what it comes from."
        ) from None
    with building(path, "a method", weights):
        model = method(spec["graph"], **spec["networks"], **spec.get("settings", {}))
        model.recall(spec)
        if spec.get("image") is not None:
            model.image_shape = _image_shape(spec["image"])
        model.data_spec = spec.get("data")
        # Not its own, which knows no path; ``building`` names it.
        nn.Module.load_state_dict(model, weights)
    return model.to(map_location).eval()


def _image_shape(described: Iterable[object]) -> tuple[int, ...]:
    shape = tuple(n for n in described if type(n) is int and 1 <= n <= LARGEST_SIDE)
    if len(shape) != 3 or list(shape) != list(described):
        raise ValueError(
            f"images are of [C, H, W], up to {LARGEST_SIDE} each, not {described!r:.100}"
        )
    return shape


def write_weights(
    model: CounterfactualModule, sampling: Sampling, path: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write a weights file, whole or not at all; floating weights are kept as ``dtype``.

    It is to be given away: folders of this machine in the description of the data are left out.
    """
    state = model.state_dict()
    tensors = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    about = model.spec_record() | {"data": public(model.data_spec)}
    write_tensors(tensors, about | {SAMPLING: sampling_to_spec(sampling)}, path)
