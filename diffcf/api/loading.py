"""A model out of a file: shipped weights, a checkpoint, or what the Hub has."""

from __future__ import annotations

from pathlib import Path

import torch

from diffcf.api.model import Model
from diffcf.io import CheckpointError, device_of
from diffcf.methods import (
    SAMPLING_KEY,
    Sampling,
    find_weights,
    method_of,
    read_trained,
    sampling_from_spec,
)

UNKNOWN = Sampling(steps=8, anchored=True, spacing=1.2)  # where a checkpoint does not say how


def load(
    name: str | Path, device: str | torch.device = "cpu", sampling: Sampling | None = None
) -> Model:
    """A model by the name of shipped weights, from a checkpoint or weights file, or off the Hub.

    Args:
        name: one of :func:`diffcf.shipped`, a path (``last.ckpt``, or a ``.safetensors`` file), or
            ``hub:owner/name``, which alone uses a network.
        device: where it answers.
        sampling: how to sample; None as the file says.

    Raises:
        CheckpointError: when there is no such file or repository, or it is none of ours.
        UnavailableError: when there is no such device on this machine, or the Hub cannot be asked.
    """
    path, device = find_weights(name), device_of(device)
    checkpoint = read_trained(path, device)
    module, spec = method_of(checkpoint, path, device), checkpoint.get(SAMPLING_KEY)
    try:
        stored = UNKNOWN if spec is None else sampling_from_spec(spec)
    except ValueError as error:
        raise CheckpointError(f"{path} does not say how to draw: {error}") from None
    return Model(module, sampling or stored)
