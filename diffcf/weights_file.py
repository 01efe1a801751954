"""Weights to ship: one safetensors file that says itself what it holds and how to draw with it.

What it says of itself: method, graph, networks, settings, training and sampling.
"""

from __future__ import annotations

from pathlib import Path

import torch

from diffcf.counterfactual import Sampling
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.sampling_spec import sampling_to_spec
from diffcf.tensor_file import write_tensors
from diffcf.trained_file import SAMPLING

__all__ = ["write_weights"]


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
