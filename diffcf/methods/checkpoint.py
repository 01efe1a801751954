"""What a checkpoint says of itself, beyond weights: graph, networks and how it was trained.

All of it is plain text and numbers, so that a checkpoint is read without unpickling any code.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import __version__

from diffcf.diffusion import ClassifierFree, Guidance
from diffcf.io import (
    SPEC_KEY,
    AllocationLimit,
    CheckpointError,
    check_archive,
    class_at,
    device_name,
    path_of,
    present,
    present_tensors,
    read_tensors,
)
from diffcf.methods.engine import Sampling

ROOM = 256 * 2**20
LONGEST = 500


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The checkpoint as a dictionary of tensors and primitives.

    Raises:
        CheckpointError: when the file is missing, unreadable or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check the path.")
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise CheckpointError(f"Checkpoint {path} cannot be read: {one_line(error)}") from error
    return in_present_names(checkpoint, path)


def in_present_names(checkpoint: Any, path: str | Path) -> dict[str, Any]:
    """A loaded checkpoint whose description and weights have today's names.

    Raises:
        CheckpointError: when it is not one of ours.
    """
    spec = spec_of(checkpoint, str(path))
    try:
        renamed = {**checkpoint, SPEC_KEY: present(spec)}
    except RecursionError:
        raise CheckpointError(f"{path} describes something nested without end.") from None
    for key in ("state_dict", "current_model_state"):  # of the method, and of its moving average
        if isinstance(renamed.get(key), Mapping):
            renamed[key] = present_tensors(renamed[key])
    if SAMPLING_KEY in renamed:
        renamed |= {SAMPLING_KEY: present({"sampling": renamed[SAMPLING_KEY]})["sampling"]}
    return renamed


def spec_of(checkpoint: Any, name: str = "This checkpoint") -> dict[str, Any]:
    """``{"graph", "networks", "training"}`` of a loaded checkpoint, or CheckpointError."""
    spec = checkpoint.get(SPEC_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(spec, dict):
        raise CheckpointError(f"{name} was not written by diffcf: it describes no networks.")
    return spec


@contextmanager
def building(path: str | Path, what: str, tensors: Mapping[str, Any]) -> Iterator[None]:
    """Build what a file describes, within the memory that its own weights call for.

    Args:
        path: the file, for messages.
        what: it describes, likewise.
        tensors: the file's weights.

    Raises:
        CheckpointError: for whatever goes wrong in the block.
    """
    weights = sum(value.nbytes for value in tensors.values() if isinstance(value, torch.Tensor))
    try:
        # Half precision is doubled on reading; the rest is for what is not kept in a file.
        with AllocationLimit(4 * weights + ROOM):
            yield
    except CheckpointError:
        raise
    except Exception as error:  # a description can be wrong in every way there is
        raise CheckpointError(
            f"{path} describes {what} that cannot be made: {one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    """The beginning of an error's text, or its kind, for use inside a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


class TrainingRecord:
    """Steps, seconds (wall, processor), seed and device of a training, over its resumed parts."""

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        self._record = dict(record or {})
        self._clocks: tuple[float, float] | None = None

    def start(self) -> None:
        """Start the clock: training begins or goes on."""
        self._clocks = (time.perf_counter(), time.process_time())

    def update(self, step: int, device: torch.device) -> dict[str, Any]:
        """The record as of now."""
        if self._clocks is not None:
            now = (time.perf_counter(), time.process_time())
            wall, processor = (b - a for a, b in zip(self._clocks, now, strict=True))
            self._clocks = now
            self._record = {
                "seconds": self._record.get("seconds", 0.0) + wall,
                "processor_seconds": self._record.get("processor_seconds", 0.0) + processor,
                "steps": step,
                "seed": os.environ.get("PL_GLOBAL_SEED"),
                "device": device_name(device),
            }
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        # Rounded here and not where it is kept: parts of a second would get lost at every save.
        return {k: round(v, 1) if isinstance(v, float) else v for k, v in self._record.items()}


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
    name = str(
        spec.get("method", "diffcf.methods.diffusion_counterfactuals.DiffusionCounterfactuals")
    )
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


SAMPLING = "sampling"
"""Where a weights file keeps how to draw."""
WEIGHTS_SUFFIX = ".safetensors"


def read_trained(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """A checkpoint, or a weights file as a checkpoint without the state of its training.

    Raises:
        CheckpointError: when the file is missing, unreadable or not one of ours.
    """
    path = Path(path)
    if path.suffix != WEIGHTS_SUFFIX:
        return read_checkpoint(path, map_location)
    tensors, about = read_tensors(path, "weights")
    state = {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
    return {"state_dict": state, SAMPLING_KEY: about.pop(SAMPLING, None), SPEC_KEY: about}


class TrainedIO(TorchCheckpointIO):
    """Lets a Trainer read checkpoints of any age, and a weights file as if it were one."""

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if Path(path).suffix != WEIGHTS_SUFFIX:
            return in_present_names(super().load_checkpoint(path, *args, **kwargs), path)
        position = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": __version__}
        return {**read_trained(path), **position}


SAMPLING_KEY = "diffcf_sampling"
"""Where a checkpoint keeps it."""

MOST_STEPS = 10_000


def sampling_to_spec(sampling: Sampling) -> dict[str, Any]:
    """Primitive description; :func:`sampling_from_spec` reads it back."""
    rule, free = sampling.guidance, sampling.free
    spec = vars(sampling) | {"guidance": None, "free": None if free is None else vars(free)}
    if rule is not None:
        spec["guidance"] = {"class_path": path_of(type(rule)), "init_args": dict(vars(rule))}
    return spec


def sampling_from_spec(spec: Mapping[str, Any]) -> Sampling:
    """The sampling that ``spec`` describes.

    Raises:
        ValueError: for keys, values or a guidance rule that do not exist.
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"Sampling is described by its settings, not {spec!r:.100}.")
    given = dict(spec)
    unknown = set(given) - {field.name for field in fields(Sampling)}
    if unknown:
        raise ValueError(f"Sampling has no {', '.join(sorted(map(str, unknown)))}.")
    _check_numbers(given)
    if given.get("guidance") is not None:
        given["guidance"] = _rule(given["guidance"])
    try:
        if given.get("free") is not None:
            given["free"] = ClassifierFree(**_numbers(given["free"]))
        return Sampling(**given)
    except TypeError as error:
        raise ValueError(f"Sampling does not take these settings: {error}.") from None


def sampling_of(spec: Any, path: str | Path) -> Sampling:
    """The sampling that the file at ``path`` describes; CheckpointError where it is wrong."""
    try:
        return sampling_from_spec(spec)
    except ValueError as error:
        raise CheckpointError(f"{path} does not say how to draw: {error}") from None


def _check_numbers(given: Mapping[str, Any]) -> None:
    """ValueError unless steps, depth and switches are what they are called."""
    steps, t_max = given.get("steps", 1), given.get("t_max", 1.0)
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"Sampling takes 1 to {MOST_STEPS} steps, not {steps!r:.100}.")
    if not isinstance(t_max, int | float) or not 0 < t_max <= 1:
        raise ValueError(f"t_max of sampling lies in (0, 1], not {t_max!r:.100}.")
    for name in ("conditional", "mechanisms", "anchored"):
        if not isinstance(given.get(name, True), bool):
            raise ValueError(f"{name} of sampling is true or false, not {given[name]!r:.100}.")


def _numbers(arguments: Any) -> dict[str, Any]:
    """``arguments`` themselves; ValueError unless they are numbers by name."""
    if not isinstance(arguments, Mapping):
        raise ValueError(f"Settings are numbers by name, not {arguments!r:.100}.")
    for name, value in arguments.items():
        known = value is None or isinstance(value, bool)
        if not known and not (isinstance(value, int | float) and isfinite(value)):
            raise ValueError(f"{name} is a finite number, not {value!r:.100}.")
    return dict(arguments)


def _rule(spec: Any) -> Guidance:
    if not isinstance(spec, Mapping):
        raise ValueError(f"Guidance has a class_path, and is not {spec!r:.100}.")
    path = str(spec.get("class_path", ""))
    rule = class_at(path, Guidance)
    try:
        return rule(**_numbers(spec.get("init_args", {})))
    except TypeError as error:
        raise ValueError(f"Guidance '{path}' does not take these settings: {error}.") from None
