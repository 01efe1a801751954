"""Reading factors off images by a trained evaluator: its file, and its card of errors.

The file is in the safetensors format: nothing in it is ever unpickled or run. Beside the weights it
holds, as text, the graph, the networks' descriptions, the shape of the images it reads and its
card, so that no evaluator can be used without what is known of its errors.

Errors are measured on validation images (the ones that chose the weights), on held-out test images
and, where a scene can draw them, on exact counterfactuals of these, each factor set in turn. The
last count: a network that reads a shadow off the sun is right on every observed image and wrong on
a shadow that was moved by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffcf.causal import CausalGraph, Scene
from diffcf.evaluation.metrics.acm import absolute_counterfactual_mismatch
from diffcf.evaluation.metrics.image_metric import ImageMetric
from diffcf.evaluation.plan import InterventionPlan
from diffcf.evaluation.protocol import EvaluationData, EvaluationProtocol
from diffcf.evaluation.references import Truth
from diffcf.io import CheckpointError, read_tensors, write_tensors
from diffcf.methods import building
from diffcf.networks import NetworkSpec, build_network

LATENTS = "latents."  # of the names of the encoder's weights
DRAWN_AT_ONCE = 128
NO_SCENE = "unknown: these data have no scene to draw counterfactual images"
NOT_EXACT = (
    "unknown: the scene cannot draw exact counterfactual images, since its mechanisms are random "
    "or its image noise is not known"
)
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
                    f"The evaluator reads {known}, and not {factor} as the graph has it: train one "
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
        return reader if graph is None else reader.of(graph)


def reading_error(read: Tensor, factors: Tensor, graph: CausalGraph) -> Tensor:
    """Per image and factor ``[B, K]``: |difference| of a continuous factor, else 1 where misread.

    The probability of a binary factor counts as 1 from ½ on. ValueError for shapes that differ,
    and for NaN.
    """
    error = absolute_counterfactual_mismatch(read, factors, graph)
    misread = ((read >= 0.5) != (factors >= 0.5)).to(error.dtype)
    return torch.where(graph.binary.to(read.device), misread, error)


class ReadingError(ImageMetric):
    """Means of :func:`reading_error`: ``error/<factor>``, and ``error`` over all factors.

    >>> from diffcf.causal import CausalGraph, Factor
    >>> error = ReadingError(CausalGraph([Factor("size"), Factor("lit", "binary")]))
    >>> error.update(torch.tensor([[0.5, 0.9], [0.1, 0.2]]), torch.tensor([[0.4, 1.0], [0.1, 1.0]]))
    >>> {name: round(float(value), 3) for name, value in error.compute().items()}
    {'error': 0.275, 'error/size': 0.05, 'error/lit': 0.5}
    """

    higher_is_better = False

    def __init__(self, graph: CausalGraph, **kwargs: object) -> None:
        super().__init__(groups=1, quantities=len(graph), **kwargs)
        self.graph = graph

    def update(
        self,
        read: Tensor,
        factors: Tensor,
        index: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Add readings ``[B, K]`` of images with these ``factors``; ``index`` is their rows.

        ``weight`` ``[B, K]`` is of each error (:class:`diffcf.causal.LevelBalance`).
        """
        error = reading_error(read, factors, self.graph)
        self._add(error if weight is None else error * weight, 0, index)

    def named(self, means: Tensor, seen: Sequence[int]) -> dict[str, Tensor]:
        """The mean over factors, and each factor's error."""
        names = [f"error/{name}" for name in self.graph.names]
        errors = zip(names, means[:, 0].unbind(dim=1), strict=True)
        return {"error": means[:, 0].mean(dim=1), **dict(errors)}


def measure_readings(reader: EvaluatorReader, data: EvaluationData, seed: int = 0) -> Card:
    """All errors of an evaluator, by the kind of images; ``seed`` is that of the interventions.

    Returns:
        ``validation`` and ``test``: errors by name, see :class:`ReadingError`. ``counterfactual``:
        the same by the factor set, with ``counterfactual_roots`` and ``counterfactual_leaves``, the
        largest errors of any factor under these interventions; or a sentence why it is unknown.
    """
    result: Card = {}
    for name, loader in ("validation", data.val_dataloader()), ("test", data.test_dataloader()):
        observed = ((batch["image"], batch["factors"], batch["index"]) for batch in loader)
        result[name] = _errors(reader, observed)
    if not isinstance(data.scene, Scene):
        return result | {"counterfactual": NO_SCENE}
    truth = Truth(data.scene, data.noise_of("test"))
    if not truth.certain:
        return result | {"counterfactual": NOT_EXACT}
    errors = _counterfactual(reader, truth, data.factors_of("test"), seed)
    result["counterfactual"] = errors
    for group, names in (("roots", reader.graph.roots), ("leaves", reader.graph.leaves)):
        known = [errors[name] for name in names if name in errors]  # what could be set at all
        if known:
            result[f"counterfactual_{group}"] = max(
                value for found in known for key, value in found.items() if key != "error"
            )
    return result


def _errors(
    reader: EvaluatorReader, batches: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> dict[str, float]:
    """Errors by name, of batches of images, their factors and their rows in the set."""
    error = ReadingError(reader.graph)
    for images, factors, index in batches:
        error.update(reader.read(images), factors, index)
    return {name: float(value) for name, value in error.compute().items()}


def _counterfactual(
    reader: EvaluatorReader, truth: Truth, factors: Tensor, seed: int
) -> dict[str, dict[str, float]]:
    """Errors on exact counterfactuals of the images with ``factors`` ``[N, K]``, by factor set."""
    scene = truth.scene
    assert isinstance(scene, Scene)  # or it could not draw
    protocol = EvaluationProtocol(steps=0, seed=seed)
    plan = InterventionPlan(reader.graph, factors, protocol, scene.counterfactual, scene.visible)
    size, parts = reader.image_shape[-1], torch.arange(len(factors)).split(DRAWN_AT_ONCE)
    errors = {}
    for name, do in plan.single.items():
        target = scene.counterfactual(factors, do.values, do.mask)
        asked = (part[do.mask[part].any(dim=1)] for part in parts)
        drawn = ((truth.exact(target[r], r, size), target[r], r) for r in asked if len(r))
        errors[name] = _errors(reader, drawn)
    return errors
