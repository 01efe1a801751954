"""Training of the independent evaluator.

:class:`FactorEvaluator` learns as the projector does, from every place of region composites
(:meth:`LocalPosteriorProjector.local_loss`), because only composites contradict a network that
reads the shadow off the sun. It differs in what makes it independent: its own weights, seed and
size, and clean images only (t = 0). An autoencoder, whose latents CLD compares, may be trained
beside it, on images alone (:class:`diffcf.evaluation.ImageVAE`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from diffcf.causal import (
    CausalGraph,
    LevelBalance,
    check_strength,
    training_factors,
    weighted_labels,
)
from diffcf.evaluation.evaluator.reader import read_factors
from diffcf.evaluation.evaluator.reading_error import ReadingError
from diffcf.io import DivergenceError, SettingsError
from diffcf.methods import (
    Muon,
    TrainingRecord,
    check_amount,
    check_share,
    muon_groups,
    warm_cosine,
)
from diffcf.networks import (
    LocalPosteriorProjector,
    NetworkFactory,
    NetworkSpec,
    RegionMixer,
    build_network,
    network_spec,
)


class FactorEvaluator(LightningModule):
    """A network from images to factors, with the weights that were best on validation.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        network: network class of local posteriors, with the interface of
            :class:`diffcf.networks.projector.LocalPosteriorProjector`.
        latents: network class that encodes whole images, for CLD
            (:class:`diffcf.evaluation.ImageVAE`), if any.
        mixing: region mixing; None where factors do not determine each other.
        learning_rate, weight_decay: of AdamW.
        warmup: share of the training in which the rate rises; it then falls as a cosine to zero.
        clip: gradient norm allowed.
        balance: how far rare levels of discrete factors count as much as frequent ones, in training
            and in the choice of the best weights (``strength`` of
            :class:`diffcf.causal.LevelBalance`).
        weights: how much a factor counts, by name, in training and in the choice of the best
            weights; 1 where it is not named.
        shift: pixels by which images are moved at random in training, at most; what comes in at the
            edge repeats it.
        light: how far contrast, brightness and the channels' balance vary at random in training, as
            a standard deviation in parts of the range.
        muon: learning rate of the matrices of ``network`` by Muon (:mod:`diffcf.methods.muon`);
            None for AdamW alone.

    Batches are ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1], "index": [B]}``;
    training batches with ``observed`` have NaN where a label is missing, which is left out.

    Attributes:
        best_weights, best_latents: states of the networks, on the CPU, at the validation with the
            least ``val/error``; empty before the first, and where there are no latents.
        best_error, best_step: of that validation.

    Raises:
        SettingsError: for a number outside its range.
        DivergenceError: when the loss is not finite, with the step named.
    """

    def __init__(
        self,
        graph: CausalGraph | Mapping[str, object],
        network: NetworkFactory = LocalPosteriorProjector,
        latents: NetworkFactory | None = None,
        mixing: RegionMixer | None = None,
        learning_rate: float = 2.5e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.065,
        clip: float = 1.0,
        balance: float = 0.0,
        weights: dict[str, float] | None = None,
        shift: int = 0,
        light: float = 0.0,
        muon: float | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph if isinstance(graph, CausalGraph) else CausalGraph.from_dict(graph)
        self.spec: NetworkSpec = network_spec(network)
        self.network = build_network(self.spec, self.graph)
        self.latent_spec = spec = network_spec(latents) if latents is not None else None
        self.latents = build_network(spec, self.graph) if spec is not None else None
        self.mixing = mixing
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.clip = check_share("warmup", warmup), clip
        if shift < 0:
            raise SettingsError(f"shift must be at least 0 pixels, not {shift}.")
        self.balance, self.shift = check_strength(balance), shift
        self.light = check_amount("light", light)
        self.muon = None if muon is None else check_amount("muon", muon)
        counts = torch.ones(len(self.graph))
        for name, amount in (weights or {}).items():
            counts[self.graph.column(name)] = check_amount(f"the weight of '{name}'", amount)
        if not counts.any():
            raise SettingsError("weights leaves no factor to learn: give one of them more than 0.")
        self.counts = counts / counts.mean()
        self.level_balance: LevelBalance | None = None
        self.validation_error = ReadingError(self.graph)
        self.best_weights: dict[str, Tensor] = {}
        self.best_latents: dict[str, Tensor] = {}
        self.best_error, self.best_step = math.inf, 0
        self.training_record = TrainingRecord()
        self._judged: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def loss(self, image: Tensor, factors: Tensor, partial: bool = False) -> Tensor:
        """Negative log-likelihood of every place of composites, scalar.

        If they are ``partial``, factors are NaN where a label is missing, which is left out.
        """
        if self.training and self.shift:
            image = shifted(image, self.shift)
        if self.training and self.light:
            image = relit(image, self.light)
        if self.mixing is not None:
            image, targets = self.mixing.for_projector(image, factors, self.network)
        else:
            targets = self.network.everywhere(factors, image)
        saliency = self.network.saliency(image)
        posterior = self.network(image, image.new_zeros(len(image)))
        targets, weight = weighted_labels(targets, self._weights_of, partial)
        return self.network.local_loss(posterior, targets, saliency, weight)

    def _weights_of(self, factors: Tensor) -> Tensor:
        """The weight ``[B, K, ...]`` of each of the ``factors`` ``[B, K, ...]``."""
        counts = self.counts.view(-1, *[1] * (factors.dim() - 2))
        weight = None if self.level_balance is None else self.level_balance(factors)
        return counts.expand_as(factors) if weight is None else counts * weight

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch["image"], batch["factors"], "observed" in batch)
        if self.latents is not None:
            # They share no weights: the sum trains each as if it were alone.
            latent_loss = self.latents.loss(batch["image"])
            self.log("train/latents", latent_loss)
            loss = loss + latent_loss
        if not torch.isfinite(loss):
            raise DivergenceError(
                f"The evaluator's loss is {loss.item()} at step {self.global_step}: lower "
                "learning_rate, or look at the batch."
            )
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.counts = self.counts.to(device)  # once, and not at every step
        if self.balance:
            factors = training_factors(getattr(self.trainer, "datamodule", None))
            self.level_balance = LevelBalance(self.graph, factors.to(device), self.balance)

    def on_validation_epoch_start(self) -> None:
        self.validation_error.reset()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            # What is judged is what is kept, even if a callback has put averaged weights in.
            self._judged = (_copy(self.network), _copy(self.latents))
        read = read_factors(self.network, self.graph, batch["image"])
        factors = batch["factors"]
        weight = None if self.level_balance is None else self.level_balance(factors)
        self.validation_error.update(read, factors, batch["index"], weight)

    def on_validation_epoch_end(self) -> None:
        # Gathered from all processes, so that they log and select alike.
        errors = self.validation_error.compute()
        del errors["error"]
        error = (torch.stack(list(errors.values())) * self.counts).mean()
        self.log("val/error", error, prog_bar=True, sync_dist=True)
        self.log_dict({f"val/{name}": value for name, value in errors.items()}, sync_dist=True)
        if not self.trainer.sanity_checking and float(error) < self.best_error:
            self.best_error, self.best_step = float(error), self.global_step
            self.best_weights, self.best_latents = self._judged

    def on_fit_start(self) -> None:
        self.training_record.start()

    def on_train_end(self) -> None:
        self.training_record.update(self.global_step, self.device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        groups = list(muon_groups(self.network, self.learning_rate, self.muon))
        if self.latents is not None:
            groups += muon_groups(self.latents, self.learning_rate, None)
        optimizer = Muon(groups, weight_decay=self.weight_decay, fused=True)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warm_cosine(step / max(1, total), self.warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for network in (self.network, self.latents):
            if network is not None:
                nn.utils.clip_grad_norm_(network.parameters(), self.clip)


def shifted(image: Tensor, most: int) -> Tensor:
    """Each image ``[B, C, H, W]`` moved by up to ``most`` pixels across and down, at random."""
    count, _, height, width = image.shape
    move = torch.randint(-most, most + 1, (2, count, 1), device=image.device)
    rows = (torch.arange(height, device=image.device) + move[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) + move[1]).clamp(0, width - 1)
    place = torch.arange(count, device=image.device)[:, None, None]
    return image.movedim(1, -1)[place, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def relit(image: Tensor, spread: float) -> Tensor:
    """Images ``[B, C, H, W]`` in [-1, 1] in another light, each its own.

    The logarithm of contrast varies by ``spread``, brightness by half of it, and that of each
    channel by half of it again.
    """
    count, channels = image.shape[:2]
    contrast = (spread * torch.randn(count, 1, 1, 1, device=image.device)).exp()
    brightness = torch.randn(count, channels + 1, 1, 1, device=image.device)
    moved = image * contrast + spread / 2 * (brightness[:, :1] + brightness[:, 1:])
    return moved.clamp(-1, 1)


def _copy(network: nn.Module | None) -> dict[str, Tensor]:
    """A copy of the state on the CPU."""
    state = network.state_dict() if network is not None else {}
    return {name: value.detach().cpu().clone() for name, value in state.items()}
