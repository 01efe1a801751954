"""Reading factors off images by a trained evaluator: its file, and its card of errors.

The file is in the safetensors format: nothing in it is ever unpickled or run. Beside the weights it
holds, as text, the graph, the networks' descriptions, the shape of the images it reads and its
card, so that no evaluator can be used without what is known of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph
from diffcf.io import CheckpointError, read_tensors, write_tensors
from diffcf.methods import building
from diffcf.networks import NetworkSpec, build_network

LATENTS = "latents."  # of the names of the encoder's weights
Card = dict[str, Any]
"""As ``card.json`` has it: :func:`measure_readings`, and where the evaluator comes from."""


def read_factors(network: nn.Module, graph: CausalGraph, images: Tensor) -> Tensor:
    """Factors ``[B, K]`` in [0, 1] of clean images ``[B, C, H, W]`` in [-1, 1].

    The probability of a binary factor, the likeliest category's place over the last place, and
    the mean of a continuous factor, held within its range.
    """
    code = network(images, images.new_zeros(len(images))).mean
    return graph.decode(code, hard=False).clamp(0, 1)


class EvaluatorReader:
    """Reads factors off images, with a card of its errors.

    Args:
        graph: the factors that are read.
        network: description of the network (:func:`diffcf.networks.factory.network_spec`).
        weights: its state.
        image_shape: ``(C, H, W)`` of the images it was trained on. Images of a whole multiple of
            that size are first averaged down to it; it refuses all others.
        card: what is known of its errors.
        device: where it reads.
        latents: description and state of the network that encodes images for CLD, if any.

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
        card: Card | None = None,
        device: str | torch.device = "cpu",
        latents: tuple[NetworkSpec, Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.graph, self.spec = graph, network
        self.name = "The evaluator"  # in sentences: :meth:`load` adds its file
        self._own = graph  # of all that the network reads
        self._columns: list[int] | None = None  # those of them that are asked for; None for all
        self.card: Card = dict(card or {})
        self.image_shape = tuple(image_shape)
        self.device = torch.device(device)
        self._network = self._built(network, weights)
        self.latent_spec = latents[0] if latents is not None else None
        self._latents = self._built(*latents) if latents is not None else None
        self.encodes = latents is not None  # whether it has :meth:`latents`
        # How many :meth:`features` it has; 0 where its network has none for the whole image.
        self.feature_count = int(getattr(self._network, "feature_count", 0))

    def of(self, graph: CausalGraph) -> EvaluatorReader:
        """The same evaluator, that reads the factors of ``graph`` alone, in their order.

        Its arrows play no part in reading.

        Raises:
            CheckpointError: when some of the factors are not, or not so, among those it reads.
        """
        own = {factor.name: factor for factor in self._own.factors}
        for factor in graph.factors:
            if own.get(factor.name) != factor:
                known = own.get(factor.name, f"no '{factor.name}', but {', '.join(own)}")
                raise CheckpointError(
                    f"{self.name} reads {known}, and not {factor} as the graph has it: train one "
                    "for this graph (diffcf evaluator)."
                )
        reader = copy(self)
        reader.graph = graph
        reader._columns = [self._own.column(name) for name in graph.names]
        return reader

    def _built(self, spec: NetworkSpec, weights: Mapping[str, Tensor]) -> nn.Module:
        network: nn.Module = build_network(spec, self._own)
        try:
            network.load_state_dict(dict(weights))
        except RuntimeError:
            raise CheckpointError(
                f"The weights do not fit the evaluator's network, {spec}: take both from one file."
            ) from None
        return network.to(self.device).eval()

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """:func:`read_factors` of images ``[B, C, H, W]`` in [-1, 1], on their device.

        Raises:
            CheckpointError: for images of another shape than it was trained on, or a multiple.
        """
        seen = self._fitted(images).to(self.device)
        factors = read_factors(self._network, self._own, seen)
        if self._columns is not None:
            factors = factors[:, self._columns]
        return factors.to(images.device)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What its network reads factors off, ``[B, feature_count]``, of images as in :meth:`read`.

        Raises:
            CheckpointError: for images of another shape, or where it has no features.
        """
        if not self.feature_count:
            raise CheckpointError(
                "The evaluator's network has no features of a whole image: train one with "
                "GlobalPosteriorProjector."
            )
        network: Any = self._network
        features: Tensor = network.features(self._fitted(images).to(self.device))
        return features.to(images.device)

    @torch.no_grad()
    def latents(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[B, D]`` of images ``[B, C, H, W]`` in [-1, 1], for CLD.

        Raises:
            CheckpointError: for images of another shape, or when it was trained without latents.
        """
        if self._latents is None:
            raise CheckpointError("The evaluator has no latents: train one with model.latents.")
        mean, log_variance = self._latents(self._fitted(images).to(self.device))
        return mean.to(images.device), log_variance.to(images.device)

    def _fitted(self, images: Tensor) -> Tensor:
        """Images in the size it was trained on, float32."""
        channels, height, width = self.image_shape
        fits = images.dim() == 4 and images.shape[1] == channels
        times = images.shape[-1] // width if fits else 0
        if times < 1 or tuple(images.shape[-2:]) != (times * height, times * width):
            raise CheckpointError(
                f"The evaluator reads images of shape {list(self.image_shape)}, or of a multiple "
                f"of that size, got {list(images.shape[1:])}: train one on such images."
            )
        images = images.float()
        return images if times == 1 else F.avg_pool2d(images, times)

    def save(self, path: str | Path) -> None:
        """Write weights, description and card to one file, whole or not at all."""
        about: Card = {"network": self.spec, "latents": self.latent_spec, "card": self.card}
        about |= {"graph": self._own.to_dict(), "image_shape": list(self.image_shape)}
        tensors = dict(self._network.state_dict())
        if self._latents is not None:
            tensors |= {LATENTS + name: v for name, v in self._latents.state_dict().items()}
        write_tensors(tensors, about, Path(path))

    @classmethod
    def load(
        cls, path: str | Path, graph: CausalGraph | None = None, device: str | torch.device = "cpu"
    ) -> EvaluatorReader:
        """The evaluator of a file that ``diffcf evaluator`` wrote, :meth:`of` a ``graph`` if given.

        Raises:
            CheckpointError: when the file is missing, unreadable, not one of ours, or belongs to
                another graph.
        """
        weights, about = read_tensors(Path(path), "evaluator")
        with building(path, "an evaluator", weights):
            own = CausalGraph.from_dict(about["graph"])
            shape, card = tuple(about["image_shape"]), about["card"]
            names = [name for name in weights if name.startswith(LATENTS)]
            encoder = {name.removeprefix(LATENTS): weights.pop(name) for name in names}
            spec = about["latents"]
            latents = (spec, encoder) if spec is not None else None
            reader = cls(own, about["network"], weights, shape, card, device, latents)
        reader.name = f"The evaluator {path}"
        return reader if graph is None else reader.of(graph)
