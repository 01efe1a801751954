"""What every trained method is: a LightningModule of networks over one causal graph.

Methods define networks, losses and answers; optimisation, logging and checkpoints are the same for
all, so that a comparison compares methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from inspect import signature
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from diffcf.causal import Marks
from diffcf.io import SettingsError
from diffcf.methods.checkpoint import Spec
from diffcf.methods.divergence import DivergenceWatch
from diffcf.methods.interface import NO_READER, Method
from diffcf.methods.muon import Muon, muon_groups
from diffcf.methods.recorded import GraphOrSpec, RecordedModule
from diffcf.methods.sampling import Sampling
from diffcf.methods.schedule import check_amount, check_share, warm_cosine
from diffcf.networks import (
    NetworkFactory,
    NetworkSpec,
    build_network,
    check_channels,
    check_sides,
)


class CounterfactualModule(RecordedModule, ABC):
    """Networks over one causal graph that together answer interventions.

    A subclass names its networks, each of which becomes an attribute of its name, trains them by
    :meth:`losses` and answers by :meth:`method`.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        networks: network classes, partials of them or descriptions, by name.
        settings: further constructor arguments (text and numbers) without which a checkpoint would
            answer otherwise than the model that wrote it.
        learning_rate: of AdamW; :meth:`rate_of` may give a network its own.
        weight_decay: of AdamW.
        muon: learning rate, by name, of networks whose matrices are trained by Muon
            (:mod:`diffcf.methods.muon`); None for AdamW alone.
        warmup: share of the training in which the rate rises; it then falls as a cosine to zero.
        clip: gradient norm allowed to each network, so that a steep likelihood in one does not
            hold up the others.
        weights: of the loss terms; those not named have weight 1.
        rate_scale: what all learning rates are multiplied by, for batches of another size than
            they were chosen for.
        channels_last: whether the convolutions' weights lie in memory as the tensor cores of a card
            want them. Checkpoints and answers are the same.

    Batches are ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1]}``, with the
    optional keys of :class:`diffcf.causal.Marks`.

    Raises:
        SettingsError: for a number outside its range; at the first step, for images that are not
            the networks' and a weight of no loss term.
        FloatingPointError: when a loss term is not finite, with the step and the term named; some
            steps later, for the host does not wait for every one.
    """

    reads = False  # whether the method reads factors off images
    late_terms: frozenset[str] = frozenset()  # loss terms that only a later step has
    frozen: frozenset[str] = frozenset()  # networks that are not trained: a subclass builds them

    def __init__(
        self,
        graph: GraphOrSpec,
        networks: Mapping[str, NetworkFactory | NetworkSpec],
        settings: Spec | None = None,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 0.01,
        muon: dict[str, float] | None = None,
        warmup: float = 0.035,
        clip: float = 1.0,
        weights: dict[str, float] | None = None,
        rate_scale: float = 1.0,
        channels_last: bool = False,
    ) -> None:
        super().__init__(graph, networks, settings, channels_last)
        for name, spec in self.spec.items():
            if name not in self.frozen:
                setattr(self, name, build_network(spec, self.graph))
        self.learning_rate = check_amount("learning_rate", learning_rate)
        self.rate_scale = check_amount("rate_scale", rate_scale)
        self.weight_decay = check_amount("weight_decay", weight_decay)
        self.muon = self._check_muon(muon or {})
        self.warmup, self.clip = check_share("warmup", warmup), check_amount("clip", clip)
        named = (weights or {}).items()
        self.weights = {n: check_amount(f"the weight of '{n}'", value) for n, value in named}
        self.time_spent: float | None = None
        self.watch = DivergenceWatch()
        self._form: torch.Size | None = None  # of what the networks have seen
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check_muon(self, rates: Mapping[str, float]) -> dict[str, float]:
        """``rates`` themselves; SettingsError unless they are of networks that are trained."""
        trained = [name for name in self.spec if name not in self.frozen]
        for name, rate in rates.items():
            if name not in trained:
                raise SettingsError(
                    f"muon names '{name}', which is no network that is trained: name some of "
                    f"{', '.join(trained)}."
                )
            check_amount(f"muon's rate of '{name}'", rate)
        return dict(rates)

    @abstractmethod
    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        """Every loss term by name (scalars); those without gradient are logged only.

        ``factors`` ``[B, K]`` are NaN where ``marks`` say that a label is missing. A method without
        this argument trains on batches without marks only.
        """

    @abstractmethod
    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        """Answers with these networks; ``sampling`` is for those that sample by diffusion."""

    def read(self, image: Tensor) -> Tensor:
        """The factors' code ``[B, E]`` that the method reads off clean images, if it does."""
        raise NotImplementedError(NO_READER)

    def rate_of(self, name: str) -> float:
        """Learning rate of the network ``name``."""
        return self.learning_rate

    def course_of(self, name: str) -> tuple[float, float]:
        """From when to when the network ``name`` learns, in shares of the training."""
        return 0.0, 1.0

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
        image = self.seen(batch)
        if self._form != image.shape[1:]:
            self._form = image.shape[1:]
            self.check_form(image)
        if self.image_shape is None or "image" in batch:
            self.image_shape = self.shape_of(batch)
        terms = self._terms_of(image, batch)
        if unknown := self.weights.keys() - terms.keys() - self.late_terms:
            raise SettingsError(
                f"There is no loss term '{min(unknown)}' to weigh: there are {', '.join(terms)}."
            )
        self.watch.see(terms, self.global_step)
        total = self.total(terms)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def _terms_of(self, image: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of a batch of which the networks see ``image``."""
        factors, marks = batch["factors"], Marks.of(batch)
        if marks is None:
            return self.losses(image, factors)
        if "marks" not in signature(self.losses).parameters:
            raise SettingsError(
                f"{type(self).__name__} knows neither missing labels nor factors that were set: "
                "give its losses the argument 'marks', or train it on other data."
            )
        return self.losses(image, torch.where(marks.observed, factors, torch.nan), marks)

    def seen(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the networks see of a batch, ``[B, C, H, W]``: the images, unless a method says."""
        return batch["image"]

    def shape_of(self, batch: Mapping[str, Tensor]) -> tuple[int, ...]:
        """``(C, H, W)`` of the images of a batch."""
        return tuple(batch["image"].shape[1:])

    def check_form(self, image: Tensor) -> None:
        """SettingsError unless all networks are for these images, at once: some idle at first."""
        for name, network in self.networks():
            title = f"{type(network).__name__} ({name})"
            if (channels := getattr(network, "image_channels", None)) is not None:
                check_channels(image, channels, title)
            if (stride := getattr(network, "stride", None)) is not None:
                check_sides(image.shape[-2:], stride, title)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """What is minimised, scalar: the terms that can be, by their weights."""
        weighted = [self.weights.get(n, 1.0) * v for n, v in terms.items() if v.requires_grad]
        return torch.stack(weighted).sum()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        image = self.seen(batch)
        terms = {f"val/{name}": value for name, value in self._terms_of(image, batch).items()}
        self.log_dict(terms, batch_size=len(image), sync_dist=True)

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: callbacks measure."""

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor] | None:
        """Nothing of its own: callbacks draw."""

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """Those that are trained, by name."""
        return ((name, getattr(self, name)) for name in self.spec if name not in self.frozen)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # Fused AdamW takes gradients that are still scaled, as 16-mixed has them: clipping, ours
        # and the Trainer's, would see them a thousand times too large.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = self.optimizer(fused=not scaled and not self.trainer.gradient_clip_val)
        rates: list[Callable[[int], float]] = [
            partial(self._rate, *course) for _, course in self._groups()
        ]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def optimizer(self, fused: bool) -> torch.optim.Optimizer:
        """That of all networks, each with its own rate, as it is before any schedule."""
        groups = [group for group, _ in self._groups()]
        return Muon(groups, weight_decay=self.weight_decay, fused=fused)

    def _groups(self) -> Iterator[tuple[dict[str, Any], tuple[float, float]]]:
        """The optimiser's groups of parameters, and from when to when each learns."""
        for name, network in self.networks():
            rate, course = self.rate_scale * self.rate_of(name), self.course_of(name)
            muon = self.rate_scale * self.muon[name] if name in self.muon else None
            for group in muon_groups(network, rate, muon):
                yield group, course

    def _rate(self, start: float, end: float, step: int) -> float:
        return warm_cosine(self.progress, self.warmup, start, end)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # torch takes all parameters of a network at once on a card, and shards one by one; on
        # neither does the host wait.
        for _, network in self.networks():
            nn.utils.clip_grad_norm_(network.parameters(), self.clip)

    def on_train_end(self) -> None:
        self.watch.check()

    def on_validation_start(self) -> None:
        self.watch.check()

    def on_save_checkpoint(self, checkpoint: Spec) -> None:
        self.watch.check()  # before broken weights take the place of the last good ones
        super().on_save_checkpoint(checkpoint)
