"""Tensors and a description in one safetensors file; nothing in it is ever unpickled or run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from diffcf.io.aliases import present, present_tensors
from diffcf.io.errors import CheckpointError
from diffcf.io.files import whole_file

SPEC_KEY = "diffcf"
"""The key of a file's description, in checkpoints too."""


def write_tensors(
    tensors: Mapping[str, Tensor], about: Mapping[str, object], path: Path, shared: bool = False
) -> None:
    """Write whole or not at all, see :func:`whole_file`; ``about`` is anything that JSON holds."""
    held = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path, shared=shared) as unfinished:
        unfinished.write_bytes(save(held, {SPEC_KEY: json.dumps(about)}))


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description that :func:`write_tensors` wrote, in present names.

    Raises:
        CheckpointError: when the file is missing, no safetensors file, or has no description;
            ``what`` it should hold is for this message.
    """
    if not path.is_file():
        raise CheckpointError(f"{what.capitalize()} {path} does not exist: check the path.")
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            text = (stored.metadata() or {}).get(SPEC_KEY, "null")
    except Exception:  # safetensors raises its own error, which it does not name in Python.
        raise CheckpointError(
            f"{path} is no safetensors file: name one that diffcf wrote."
        ) from None
    try:
        about = present(json.loads(text))
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise CheckpointError(f"{path} holds no {what} of diffcf: it describes none.")
    return present_tensors(tensors), about
