"""Reading factors off images by a trained evaluator, and the one file that it is kept in.

The file is in the safetensors format: nothing in it is ever unpickled or run. Beside the weights it
holds, as text, the graph, the networks' descriptions, the shape of the images it reads and its
card, so that no evaluator can be used without what is known of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.io import CheckpointError, read_tensors, write_tensors
from diffcf.methods import building
from diffcf.networks import NetworkSpec, build_network

LATENTS = "latents."  # of the names of the encoder's weights


def read_factors(network: nn.Module, graph: CausalGraph, images: Tensor) -> Tensor:
    """Factors ``[B, K]`` in [0, 1] of clean images ``[B, C, H, W]`` in [-1, 1].

    The probability of a binary factor, the likeliest category's place over the last place, and
    the mean of a continuous factor, held within its range.
    """
    code = network(images, images.new_zeros(len(images))).mean
    return graph.decode(code, hard=False).clamp(0, 1)


class EvaluatorReader:
    """Reads factors off images; an instrument with a card of its errors.

    Args:
        graph: the factors that are read.
        network: description of the network (:func:`diffcf.networks.factory.network_spec`).
        weights: its state.
        image_shape: ``(C, H, W)`` of the images it was trained on; it refuses all others, since
            where things lie in the picture is part of what it has learnt.
        card: what is known of its errors, see :mod:`diffcf.evaluation.evaluator.card`.
        device: where it reads.
        latents: description and state of the network that encodes pictures for CLD, if any.

    Raises:
        CheckpointError: when the weights do not fit the network.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> graph = CausalGraph([Factor("size")])
    >>> spec = {"class_path": "diffcf.networks.projector.LocalPosteriorProjector", "init_args": {}}
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
        latents: tuple[NetworkSpec, Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.graph, self.spec, self.card = graph, network, dict(card or {})
        self.image_shape = tuple(image_shape)
        self.device = torch.device(device)
        self._network = self._built(network, weights)
        self.latent_spec = latents[0] if latents is not None else None
        self._latents = self._built(*latents) if latents is not None else None

    def _built(self, spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
        network: nn.Module = build_network(spec, self.graph)
        try:
            network.load_state_dict(dict(weights))
        except RuntimeError:
            raise CheckpointError(
                f"The weights do not fit the evaluator's network, {spec}: take both from one file."
            ) from None
        return network.to(self.device).eval()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Factors ``[B, K]`` in [0, 1] of images ``[B, C, H, W]`` in [-1, 1], on their device.

        Binary factors are given by their probability, categorical ones by the place of the
        likeliest category over the last place.

        Raises:
            CheckpointError: for images of another shape than it was trained on.
        """
        self._check(images)
        factors = read_factors(self._network, self.graph, images.float().to(self.device))
        return factors.to(images.device)

    @property
    def encodes(self) -> bool:
        """Whether it has :meth:`latents`."""
        return self._latents is not None

    @torch.no_grad()
    def latents(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[B, D]`` of images ``[B, C, H, W]`` in [-1, 1], for CLD.

        Raises:
            CheckpointError: for images of another shape, or when it was trained without latents.
        """
        self._check(images)
        if self._latents is None:
            raise CheckpointError("The evaluator has no latents: train one with model.latents.")
        mean, log_variance = self._latents(images.float().to(self.device))
        return mean.to(images.device), log_variance.to(images.device)

    def _check(self, images: Tensor) -> None:
        if images.dim() != 4 or tuple(images.shape[1:]) != self.image_shape:
            raise CheckpointError(
                f"The evaluator reads images of shape {list(self.image_shape)}, got "
                f"{list(images.shape[1:])}: train one on such images."
            )

    def save(self, path: str | Path) -> None:
        """Write weights, description and card to one file, whole or not at all."""
        about = {
            "graph": self.graph.to_dict(),
            "network": self.spec,
            "latents": self.latent_spec,
            "image_shape": list(self.image_shape),
            "card": self.card,
        }
        tensors = dict(self._network.state_dict())
        if self._latents is not None:
            tensors |= {LATENTS + name: v for name, v in self._latents.state_dict().items()}
        write_tensors(tensors, about, Path(path))

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
        weights, about = read_tensors(Path(path), "evaluator")
        with building(path, "an evaluator", weights):
            own = CausalGraph.from_dict(about["graph"])
            shape, card = tuple(about["image_shape"]), about["card"]
            encoder, spec = _split(weights), about["latents"]
            latents = (spec, encoder) if spec is not None else None
            reader = cls(own, about["network"], weights, shape, card, device, latents)
        if graph is not None and graph != own:
            raise CheckpointError(
                f"The evaluator {path} belongs to another graph, {own}; here it is {graph}: train "
                "one for this graph (diffcf evaluator)."
            )
        return reader


def _split(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the encoder's weights out of ``weights``, by their own names."""
    names = [name for name in weights if name.startswith(LATENTS)]
    return {name.removeprefix(LATENTS): weights.pop(name) for name in names}
