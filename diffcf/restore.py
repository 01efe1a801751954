"""A trained method, made anew from what a checkpoint or a weights file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcf.checkpoints import CheckpointError, TrainingRecord, building
from diffcf.class_path import class_at

__all__ = ["restored"]

LARGEST = 8192  # side of an image, in pixels


def restored(spec: Mapping[str, Any], path: str | Path, weights: Any, base: type) -> Any:
    """The method that a file's description names, with its weights.

    Args:
        spec: the description (:meth:`CounterfactualModule.spec_record`).
        path: the file, for messages.
        weights: by name, as the file holds them.
        base: what the method must be a subclass of.

    Raises:
        CheckpointError: when there is no such method, it does not take this description, asks for
            far more memory than its weights take, or has other weights.
    """
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{path} holds no weights.")
    name = str(spec.get("method", "diffcf.module.DiffusionCounterfactuals"))
    try:
        method = class_at(name, base)
    except ValueError as error:
        raise CheckpointError(
            f"{path} names a method that is not here: {error}. Install what it comes from."
        ) from None
    with building(path, "a method", weights):
        model = method(spec["graph"], **spec["networks"], **spec.get("settings", {}))
        model.training_record = TrainingRecord(spec.get("training"))
        model.image_shape = _image_shape(spec.get("image"))
        model.data_spec = spec.get("data")
        model.load_state_dict(weights)
    return model


def _image_shape(described: Any) -> tuple[int, ...] | None:
    if described is None:
        return None
    shape = tuple(described)
    if len(shape) != 3 or not all(type(n) is int and 1 <= n <= LARGEST for n in shape):
        raise ValueError(f"images are of [C, H, W], up to {LARGEST} each, not {described!r:.100}")
    return shape
