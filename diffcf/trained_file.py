"""Checkpoints and weights files, read into the same dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import __version__

from diffcf.checkpoints import SPEC_KEY, read_checkpoint
from diffcf.sampling_spec import SAMPLING_KEY
from diffcf.tensor_file import read_tensors

__all__ = ["SAMPLING", "WEIGHTS_SUFFIX", "WeightsIO", "read_trained"]

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


class WeightsIO(TorchCheckpointIO):
    """Lets a Trainer test a weights file as if it were a checkpoint."""

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        position = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": __version__}
        return {**read_trained(path), **position}
