"""Reading factors off images by a trained evaluator, and the one file that it is kept in.

The file is in the safetensors format: the length of a header (8 bytes), the header in JSON, and raw
numbers. Nothing in it is ever unpickled or run. Beside the weights it holds, as text, the graph,
the network's description, the shape of the images it reads and its card, so that no evaluator can
be used without what is known of its errors.

Reference:
    Format of safetensors files, https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.checkpoints import SPEC_KEY, CheckpointError
from diffcf.graph import CausalGraph
from diffcf.networks import NetworkSpec, build_network

__all__ = ["EvaluatorReader", "read_factors"]

DTYPES = {
    "BOOL": torch.bool,
    "I64": torch.int64,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_LENGTH = 8  # bytes of the header's length; the header itself is padded to a multiple of it


def read_factors(network: nn.Module, graph: CausalGraph, images: Tensor) -> Tensor:
    """Factors ``[B, K]`` in [0, 1] of clean images ``[B, C, H, W]`` in [-1, 1].

    The probability of a binary factor, the likeliest category's place over the last place, and
    the mean of a continuous factor, held within its range.
    """
    code = network(images, images.new_zeros(len(images))).mean
    widths = torch.tensor(graph.widths)
    first = (widths.cumsum(0) - widths).to(code.device)
    binary = graph.binary.to(code.device)
    return torch.where(binary, code[:, first], graph.decode(code)).clamp(0, 1)


class EvaluatorReader:
    """Reads factors off images; an instrument with a card of its errors.

    Args:
        graph: the factors that are read.
        network: description of the network (:func:`diffcf.networks.network_spec`).
        weights: its state.
        image_shape: ``(C, H, W)`` of the images it was trained on; it refuses all others, since
            where things lie in the picture is part of what it has learnt.
        card: what is known of its errors, see :mod:`diffcf.evaluator.card`.
        device: where it reads.

    Raises:
        CheckpointError: when the weights do not fit the network.

    >>> from diffcf.graph import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("size")])
    >>> spec = {"class_path": "diffcf.projector.LocalPosteriorProjector", "init_args": {}}
    >>> fresh = build_network(spec, graph)  # untrained: it reads the middle of the range
    >>> reader = EvaluatorReader(graph, spec, fresh.state_dict(), (3, 32, 32))
    >>> reader.read(torch.zeros(2, 3, 32, 32)).tolist()
    [[0.5], [0.5]]
    """

    def __init__(
        self,
        graph: CausalGraph,
        network: NetworkSpec,
        weights: Mapping[str, Tensor],
        image_shape: tuple[int, ...],
        card: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.graph, self.spec, self.card = graph, network, dict(card or {})
        self.image_shape = tuple(image_shape)
        self.device = torch.device(device)
        self._network: nn.Module = build_network(network, graph)
        try:
            self._network.load_state_dict(dict(weights))
        except RuntimeError:
            raise CheckpointError(
                f"The weights do not fit the evaluator's network, {network}: take both from the "
                "same evaluator."
            ) from None
        self._network.to(self.device).eval()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] of images ``[B, C, H, W]`` in [-1, 1], on their device.

        Binary factors are given by their probability, categorical ones by the place of the
        likeliest category over the last place.

        Raises:
            CheckpointError: for images of another shape than it was trained on.
        """
        if images.dim() != 4 or tuple(images.shape[1:]) != self.image_shape:
            raise CheckpointError(
                f"The evaluator reads images of shape {list(self.image_shape)}, got "
                f"{list(images.shape[1:])}: train one on such images."
            )
        factors = read_factors(self._network, self.graph, images.float().to(self.device))
        return factors.to(images.device)

    def save(self, path: str | Path) -> None:
        """Write weights, description and card to one file, whole or not at all."""
        about = {
            "graph": self.graph.to_dict(),
            "network": self.spec,
            "image_shape": list(self.image_shape),
            "card": self.card,
        }
        _write(self._network.state_dict(), {SPEC_KEY: json.dumps(about)}, Path(path))

    @classmethod
    def load(
        cls,
        path: str | Path,
        graph: CausalGraph | None = None,
        device: str | torch.device = "cpu",
    ) -> EvaluatorReader:
        """The evaluator of a file.

        Args:
            path: ``evaluator.safetensors``, as ``diffcf evaluator`` wrote it.
            graph: the graph that it must have; None takes any.
            device: where it reads.

        Raises:
            CheckpointError: when the file is missing, unreadable, not one of ours, or belongs to
                another graph.
        """
        weights, text = _read(Path(path))
        if SPEC_KEY not in text:
            raise CheckpointError(f"{path} holds no evaluator of diffcf: it describes no network.")
        try:
            about = json.loads(text[SPEC_KEY])
            own = CausalGraph.from_dict(about["graph"])
            shape, card = tuple(about["image_shape"]), about["card"]
            reader = cls(own, about["network"], weights, shape, card, device)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The evaluator {path} cannot be built: {error}") from None
        if graph is not None and graph != own:
            raise CheckpointError(
                f"The evaluator {path} belongs to another graph, {own}; here it is {graph}: train "
                "one for this graph (diffcf evaluator)."
            )
        return reader


def _write(tensors: Mapping[str, Tensor], text: Mapping[str, str], path: Path) -> None:
    """A safetensors file of ``tensors`` with ``text`` as its metadata."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(text)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous()
        parts.append(values.reshape(-1).view(torch.uint8).numpy().tobytes())
        begin, end = end, end + len(parts[-1])
        header[name] = {
            "dtype": names[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _LENGTH)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(len(encoded).to_bytes(_LENGTH, "little") + encoded + b"".join(parts))
    os.replace(unfinished, path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, or CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"Evaluator {path} does not exist: check the path.")
    data = path.read_bytes()
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    try:
        header = json.loads(data[_LENGTH:start])
        text, body = header.pop("__metadata__", {}), data[start:]
        tensors = {name: _tensor(body, **entry) for name, entry in header.items()}
        return tensors, dict(text)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError):
        raise CheckpointError(
            f"{path} is no safetensors file: name the evaluator.safetensors that "
            "'diffcf evaluator' wrote."
        ) from None


def _tensor(body: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(body):
        raise ValueError("a tensor lies outside the file")
    if begin == end:  # frombuffer takes no empty buffer
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(body[begin:end]), dtype=DTYPES[dtype]).reshape(shape)
