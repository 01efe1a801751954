"""What every trained method is: a LightningModule of networks over one causal graph.

Ours (:mod:`diffcf.methods.diffusion_counterfactuals`) and its peers (:mod:`diffcf.baselines`) state their networks, their
losses and how they answer; optimisation, schedules, logging and checkpoints are the same for all,
so that a comparison compares methods.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from diffcf.causal import CausalGraph
from diffcf.io import SPEC_KEY, CheckpointError, DivergenceError, path_of, write_tensors
from diffcf.methods.checkpoint import (
    SAMPLING,
    TrainingRecord,
    read_trained,
    restored,
    sampling_to_spec,
    spec_of,
)
from diffcf.methods.engine import Sampling
from diffcf.methods.interface import NO_READER, CounterfactualMethod
from diffcf.networks import NetworkFactory, NetworkSpec, build_network, network_spec


class CounterfactualModule(LightningModule, ABC):
    """Networks over one causal graph that together answer interventions.

    A method is one subclass: its constructor names its networks, :meth:`losses` trains them and
    :meth:`method` answers. Every network becomes an attribute of its name.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        networks: network classes, partials of them or descriptions, by name.
        settings: further constructor arguments (text and numbers) without which a checkpoint would
            answer otherwise than the model that wrote it.
        learning_rate: of all networks, by AdamW; :meth:`rate_of` may set one apart.
        weight_decay: likewise.
        warmup: share of the training in which the rate rises; it then falls as a cosine to zero.
        clip: gradient norm allowed to each network; they are clipped apart, so that a steep
            likelihood in one does not hold up the others.
        weights: weight of each loss term; terms that are not named have weight 1.

    Batches are ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1]}``.

    Raises:
        ValueError: when ``warmup`` lies outside [0, 1).
        FloatingPointError: when a loss term is not finite, with the step and the term named.
    """

    reads = False

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        networks: Mapping[str, NetworkFactory | NetworkSpec],
        settings: Mapping[str, Any] | None = None,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.035,
        clip: float = 1.0,
        weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph if isinstance(graph, CausalGraph) else CausalGraph.from_dict(graph)
        self.spec: dict[str, NetworkSpec] = {n: network_spec(f) for n, f in networks.items()}
        for name, spec in self.spec.items():
            setattr(self, name, build_network(spec, self.graph))
        self.settings = dict(settings or {})
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.clip = check_share("warmup", warmup), clip
        self.weights = dict(weights or {})
        self.time_spent: float | None = None
        self.training_record = TrainingRecord()
        self.image_shape: tuple[int, ...] | None = None  # [C, H, W] of the images it was trained on
        self.data_spec: dict[str, Any] | None = None  # class_path, init_args of their data module

    # --- what a method states ---

    @abstractmethod
    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        """Every loss term by name (scalars); those without gradient are logged only."""

    @abstractmethod
    def method(self, sampling: Sampling = Sampling()) -> CounterfactualMethod:  # noqa: B008
        """Answers with these networks; ``sampling`` is for those that draw by diffusion."""

    def read(self, image: Tensor) -> Tensor:
        """The factors' code ``[B, E]`` that the method itself reads off clean images.

        Only where ``reads`` says that it does.
        """
        raise NotImplementedError(NO_READER)

    def rate_of(self, name: str) -> tuple[float, float]:
        """Learning rate of the network ``name``, and the progress at which it starts to learn."""
        return self.learning_rate, 0.0

    # --- training ---

    @property
    def progress(self) -> float:
        """How much of the training is over, in [0, 1]; by time where a budget counts it."""
        if self.time_spent is not None:
            return self.time_spent
        if self._trainer is None:
            return 0.0
        return self.global_step / max(1.0, float(self.trainer.estimated_stepping_batches))

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        self.image_shape = tuple(batch["image"].shape[1:])
        terms = self.losses(batch["image"], batch["factors"])
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise DivergenceError(
                    f"Loss term '{name}' is {value.item()} at step {self.global_step}: lower "
                    "learning_rate, or look at the batch."
                )
        total = self.total(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """What is minimised, scalar: the terms that can be, by their weights."""
        weighted = [self.weights.get(n, 1.0) * v for n, v in terms.items() if v.requires_grad]
        return torch.stack(weighted).sum()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        terms = {f"val/{n}": v for n, v in self.losses(batch["image"], batch["factors"]).items()}
        self.log_dict(terms, batch_size=len(batch["image"]), sync_dist=True)

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: callbacks measure."""

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Any:
        """Nothing of its own: callbacks draw."""

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks by name."""
        return ((name, getattr(self, name)) for name in self.spec)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups: list[dict[str, Any]] = []
        schedules: list[Callable[[int], float]] = []
        for name, network in self.networks():
            rate, start = self.rate_of(name)
            groups.append({"params": network.parameters(), "lr": rate})
            schedules.append(partial(self._rate, start))
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _rate(self, start: float, step: int) -> float:
        return warm_cosine(self.progress, self.warmup, start)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for _, network in self.networks():
            nn.utils.clip_grad_norm_(network.parameters(), self.clip)

    # --- checkpoints ---

    def on_fit_start(self) -> None:
        self.training_record.start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.training_record.update(self.global_step, self.device)
        checkpoint[SPEC_KEY] = self.spec_record()

    def spec_record(self) -> dict[str, Any]:
        """What this is, as plain text; :func:`diffcf.methods.checkpoint.restored` makes it anew."""
        return {
            "method": path_of(type(self)),
            "graph": self.graph.to_dict(),
            "networks": self.spec,
            "settings": self.settings,
            "image": None if self.image_shape is None else list(self.image_shape),
            "data": self.data_spec,
            "training": self.training_record.as_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        spec = spec_of(checkpoint)
        graph = CausalGraph.from_dict(spec["graph"])
        if graph != self.graph:
            raise CheckpointError(
                f"The checkpoint belongs to another graph, {graph}; this model has {self.graph}: "
                "take the config the checkpoint was trained with."
            )
        self.training_record = TrainingRecord(spec["training"])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: str | torch.device = "cpu"
    ) -> Self:
        """The model of a checkpoint, with its (EMA) weights, in evaluation mode.

        Raises:
            CheckpointError: when the file is missing, unreadable, not one of ours, or of another
                method.
        """
        model = load_method(checkpoint_path, map_location)
        if not isinstance(model, cls):
            raise CheckpointError(
                f"Checkpoint {checkpoint_path} holds a {type(model).__name__}, not a "
                f"{cls.__name__}: load it as what it is (diffcf.load_method)."
            )
        return model


def load_method(path: str | Path, map_location: str | torch.device = "cpu") -> CounterfactualModule:
    """The trained method of a checkpoint or weights file, whichever it is, in evaluation mode.

    Raises:
        CheckpointError: when the file is missing, unreadable or not one of ours.
    """
    return method_of(read_trained(path, map_location), path, map_location)


def method_of(
    checkpoint: Mapping[str, Any], path: str | Path, map_location: str | torch.device = "cpu"
) -> CounterfactualModule:
    """The trained method of a checkpoint that was read already; ``path`` is for messages."""
    spec, weights = spec_of(checkpoint, str(path)), checkpoint.get("state_dict")
    return restored(spec, path, weights, CounterfactualModule).to(map_location).eval()


def check_share(name: str, share: float) -> float:
    """``share`` itself; ValueError unless it is a share of the training, in [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"{name} is a share of the training in [0, 1), not a count; got {share}.")
    return share


def warm_cosine(progress: float, warmup: float, start: float = 0.0) -> float:
    """Factor of the learning rate: a linear warm-up from ``start``, then a cosine down to zero.

    Args:
        progress: how much of the training is over, in [0, 1], by steps or by time.
        warmup: share of what follows ``start`` that the warm-up takes.
        start: when the part that is trained enters, in [0, 1).

    >>> [round(warm_cosine(p, 0.2, start=0.5), 2) for p in (0.5, 0.55, 0.6, 0.8, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    own = (progress - start) / (1 - start)
    if own < warmup:
        return max(0.0, own / warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (own - warmup) / (1 - warmup))))


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
