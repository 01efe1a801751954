"""Weights to ship: one safetensors file that says itself what it holds and how to draw with it.

Nothing in it is ever unpickled or run. Its metadata is JSON: method, graph, networks, settings,
training and sampling.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from diffcf.checkpoints import CheckpointError
from diffcf.counterfactual import Sampling
from diffcf.counterfactual_module import CounterfactualModule, method_from_spec
from diffcf.sampling_spec import sampling_from_spec, sampling_to_spec

__all__ = ["read_weights", "write_weights"]

_KEY, _SAMPLING = "diffcf", "sampling"


def write_weights(
    model: CounterfactualModule,
    sampling: Sampling,
    path: Path,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write whole or not at all; floating weights are kept as ``dtype``."""
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    record = {**model.spec_record(), _SAMPLING: sampling_to_spec(sampling)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(save(tensors, {_KEY: json.dumps(record)}))
    os.replace(unfinished, path)


def read_weights(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[CounterfactualModule, Sampling]:
    """The model, in float32 and evaluation mode, and how to draw with it.

    Raises:
        CheckpointError: when the file is no weights file of ours.
    """
    record, tensors = _opened(path)
    model = method_from_spec(record, path)
    state = {n: v.float() if v.is_floating_point() else v for n, v in tensors.items()}
    try:
        model.load_state_dict(state)
        sampling = sampling_from_spec(record[_SAMPLING])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} contradicts itself: {error}") from None
    return model.to(device).eval(), sampling


def _opened(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own error, which it does not name in Python
        raise CheckpointError(f"{path} is no safetensors file: {error}") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} was not written by diffcf: it describes no networks.")
    return record, tensors
