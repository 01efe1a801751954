"""Weights to ship: one safetensors file that says itself what it holds and how to draw with it.

What it says of itself: method, graph, networks, settings, training and sampling.
"""

from __future__ import annotations

from pathlib import Path

import torch

from diffcf.counterfactual import Sampling
from diffcf.counterfactual_module import CounterfactualModule, method_of
from diffcf.sampling_spec import SAMPLING_KEY, sampling_of, sampling_to_spec
from diffcf.tensor_file import write_tensors
from diffcf.trained_file import SAMPLING, read_trained

__all__ = ["read_weights", "write_weights"]


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
    record = {**model.spec_record(), SAMPLING: sampling_to_spec(sampling)}
    write_tensors(tensors, record, path)


def read_weights(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[CounterfactualModule, Sampling]:
    """The model, in float32 and evaluation mode, and how to draw with it.

    Raises:
        CheckpointError: when the file is no weights file of ours.
    """
    checkpoint = read_trained(path, device)
    return method_of(checkpoint, path, device), sampling_of(checkpoint[SAMPLING_KEY], path)
