"""Weights to ship: one safetensors file that says itself what it holds and how to draw with it.

What it says of itself: method, graph, networks, settings, training and sampling.
"""

from __future__ import annotations

from pathlib import Path

import torch

from diffcf.counterfactual import Sampling
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.restore import restored
from diffcf.sampling_spec import sampling_of, sampling_to_spec
from diffcf.tensor_file import read_tensors, write_tensors

__all__ = ["read_weights", "write_weights"]

_SAMPLING = "sampling"


def write_weights(
    model: CounterfactualModule,
    sampling: Sampling,
    path: Path,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write whole or not at all; floating weights are kept as ``dtype``."""
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    record = {**model.spec_record(), _SAMPLING: sampling_to_spec(sampling)}
    write_tensors(tensors, record, path)


def read_weights(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[CounterfactualModule, Sampling]:
    """The model, in float32 and evaluation mode, and how to draw with it.

    Raises:
        CheckpointError: when the file is no weights file of ours.
    """
    tensors, record = read_tensors(path, "weights")
    state = {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
    model = restored(record, path, state, CounterfactualModule)
    return model.to(device).eval(), sampling_of(record.get(_SAMPLING), path)
