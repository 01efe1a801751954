"""Checkpoints and weights files: reading them, and what they hold beside weights.

Both describe the method (class, graph, networks, settings), its training, and how to sample, in
plain text and numbers, so that untrusted files are read without unpickling any code.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from diffcf.causal import CausalGraph, RootQuantiles, Ties
from diffcf.diffusion import ChangeFilter, ClassifierFree, Feedback, Guidance
from diffcf.io import (
    SPEC_KEY,
    AllocationLimit,
    CheckpointError,
    ImageTransform,
    check_archive,
    class_at,
    device_name,
    is_whole,
    path_of,
    present,
    present_tensors,
    present_transform,
    read_tensors,
)
from diffcf.methods.sampling import Sampling

Spec = dict[str, Any]
"""Plain text, numbers, lists and mappings by name, as JSON holds them."""
WEIGHTS_SUFFIX = ".safetensors"
SAMPLING_KEY, SAMPLING = "diffcf_sampling", "sampling"
"""Where a checkpoint, and the description in a weights file, keep how to sample."""
MOST_STEPS = 10_000
_PARTS = {"free": ClassifierFree, "feedback": Feedback, "change_filter": ChangeFilter}
EXTRA_MEMORY = 256 * 2**20  # bytes that networks may take beyond their weights
LONGEST = 500  # characters of a cited error


def read_trained(path: str | Path, map_location: str | torch.device = "cpu") -> Spec:
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


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> Spec:
    """The checkpoint as a dictionary of tensors and primitives; errors as :func:`read_trained`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"Checkpoint {path} does not exist: check the path.")
    check_archive(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file it cannot read
        raise CheckpointError(f"Checkpoint {path} cannot be read: {_one_line(error)}") from error
    return _in_present_names(checkpoint, path)


def _in_present_names(checkpoint: object, path: str | Path) -> Spec:
    """A loaded checkpoint, or CheckpointError, with description and weights in today's names."""
    try:
        spec = present(spec_of(checkpoint, str(path)))
        renamed = {**cast(Spec, checkpoint), SPEC_KEY: spec}
    except RecursionError:
        raise CheckpointError(f"{path} describes something nested without end.") from None
    for key in ("state_dict", "current_model_state"):  # of the method, and of its moving average
        if isinstance(renamed.get(key), Mapping):
            renamed[key] = present_tensors(renamed[key])
    if SAMPLING_KEY in renamed:
        renamed |= {SAMPLING_KEY: present({"sampling": renamed[SAMPLING_KEY]})["sampling"]}
    return renamed


def spec_of(checkpoint: object, name: str = "This checkpoint") -> Spec:
    """A checkpoint's description (:meth:`CounterfactualModule.spec_record`), or CheckpointError."""
    spec = checkpoint.get(SPEC_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(spec, dict):
        raise CheckpointError(f"{name} was not written by diffcf: it describes no networks.")
    return spec


class TrainedIO(TorchCheckpointIO):
    """Lets a Trainer read checkpoints of any age, and weights files as if they were checkpoints."""

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> Spec:
        if Path(path).suffix != WEIGHTS_SUFFIX:
            return _in_present_names(super().load_checkpoint(path, *args, **kwargs), path)
        position = {"epoch": 0, "global_step": 0}
        return {
            **read_trained(path),
            **position,
            "pytorch-lightning_version": lightning.__version__,
        }


def transform_of(spec: Spec) -> ImageTransform | None:
    """How files became the images of a described method, None if unknown; ValueError if wrong."""
    described = present_transform(spec)
    return None if described is None else ImageTransform.from_dict(described)


def ties_of(spec: Spec, graph: CausalGraph) -> Ties | None:
    """The ties of factors in a described training's data, None if unknown; GraphError if wrong."""
    described = spec.get("ties")
    return None if described is None else Ties.from_spec(graph, described)


def roots_of(spec: Spec, graph: CausalGraph) -> RootQuantiles | None:
    """The quantiles of roots in a described training's data; else as :func:`ties_of`."""
    described = spec.get("roots")
    return None if described is None else RootQuantiles.from_spec(graph, described)


def transform_of_data(trainer: Trainer, recorded: ImageTransform | None) -> ImageTransform | None:
    """That of a Trainer's data module, else the recorded one; a warning where the two differ."""
    found = getattr(getattr(trainer, "datamodule", None), "transform", None)
    if found is None:
        return recorded
    if recorded not in (None, found):
        rank_zero_warn(
            f"These weights were trained on files that were seen otherwise ({recorded}) than the "
            f"data module shows them now ({found})."
        )
    return cast(ImageTransform, found)


@contextmanager
def building(path: str | Path, what: str, tensors: Mapping[str, object]) -> Iterator[None]:
    """Build what a file describes, within the memory that its weights ``tensors`` call for.

    Whatever goes wrong in the block is raised as CheckpointError, that ``path`` describes ``what``.
    """
    weights = sum(value.nbytes for value in tensors.values() if isinstance(value, torch.Tensor))
    try:
        # Half precision is doubled on reading; the rest is for what is not kept in a file.
        with AllocationLimit(4 * weights + EXTRA_MEMORY):
            yield
    except CheckpointError:
        raise
    except Exception as error:  # a description can be wrong in every way there is
        raise CheckpointError(
            f"{path} describes {what} that cannot be made: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    """The beginning of an error's text, or its kind, for use inside a sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


class TrainingRecord:
    """Steps, seconds (wall, processor), seed and device of a training, over its resumed parts."""

    def __init__(self, record: Spec | None = None) -> None:
        self._record = dict(record or {})
        self._clocks: tuple[float, float] | None = None

    def start_from(self, trained: TrainingRecord) -> None:
        """Remember the training that the weights come from, under ``initial``."""
        self._record = {"initial": trained.as_dict()}

    def start(self) -> None:
        self._clocks = (time.perf_counter(), time.process_time())

    def update(self, step: int, device: torch.device) -> Spec:
        """The record as of now."""
        if self._clocks is not None:
            now = (time.perf_counter(), time.process_time())
            wall, processor = (b - a for a, b in zip(self._clocks, now, strict=True))
            self._clocks = now
            self._record |= {
                "seconds": self._record.get("seconds", 0.0) + wall,
                "processor_seconds": self._record.get("processor_seconds", 0.0) + processor,
                "steps": step,
                "seed": os.environ.get("PL_GLOBAL_SEED"),
                "device": device_name(device),
            }
        return self.as_dict()

    def as_dict(self) -> Spec:
        # Rounded here and not where it is kept: parts of a second would get lost at every save.
        return {k: round(v, 1) if isinstance(v, float) else v for k, v in self._record.items()}


def sampling_to_spec(sampling: Sampling) -> Spec:
    """Primitive description; :func:`sampling_from_spec` reads it back."""
    rule = sampling.guidance
    guidance = rule and {"class_path": path_of(type(rule)), "init_args": dict(vars(rule))}
    parts = {name: getattr(sampling, name) for name in _PARTS}
    plain = {name: part and dict(vars(part)) for name, part in parts.items()}
    return vars(sampling) | {"guidance": guidance} | plain


def weights_digest(module: nn.Module) -> str:
    """What stands for all weights of a module, the same wherever they lie; of shards, for its own.

    >>> weights_digest(nn.LayerNorm(2)) == weights_digest(nn.LayerNorm(2))
    True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        content = local.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(repr((name, tuple(local.shape), local.dtype)).encode())
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()[:20]


def sampling_from_spec(spec: object) -> Sampling:
    """The sampling that ``spec`` describes; ValueError for unknown keys, values or guidance."""
    given = _mapping(spec, "Sampling")
    unknown = set(given) - {field.name for field in fields(Sampling)}
    if unknown:
        raise ValueError(f"Sampling has no {', '.join(sorted(map(str, unknown)))}.")
    steps = given.get("steps", 1)
    if not is_whole(steps) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"Sampling takes 1 to {MOST_STEPS} steps, not {steps!r:.100}.")
    for name in ("conditional", "mechanisms", "anchored", "residual"):
        if not isinstance(given.get(name, True), bool):
            raise ValueError(f"{name} of sampling is true or false, not {given[name]!r:.100}.")
    try:
        if given.get("guidance") is not None:
            rule = _mapping(given["guidance"], "Guidance")
            kind = class_at(str(rule.get("class_path", "")), Guidance)  # type: ignore[type-abstract]
            given["guidance"] = kind(**_numbers(rule.get("init_args", {}), "Guidance"))
        for name, part in _PARTS.items():
            if given.get(name) is not None:
                given[name] = part(**_numbers(given[name], name))
        return Sampling(**given)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"Sampling does not take these settings: {error}.") from None


def _mapping(described: object, what: str) -> Spec:
    if not isinstance(described, Mapping):
        raise ValueError(f"{what} is described by its settings, not {described!r:.100}.")
    return dict(described)


def _numbers(described: object, what: str) -> Spec:
    """Settings that are finite numbers, true, false or None, or ValueError."""
    arguments = _mapping(described, what)
    for name, value in arguments.items():
        if not (value is None or (isinstance(value, int | float) and isfinite(value))):
            raise ValueError(f"{name} is a finite number, not {value!r:.100}.")
    return arguments
