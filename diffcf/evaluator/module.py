"""Training of the independent evaluator.

It learns as the projector does, from every place of region composites
(:meth:`LocalPosteriorProjector.local_loss`), because only composites contradict a network that
reads the shadow off the sun. It differs in what makes it independent: its own weights, seed and
size, and clean images only (t = 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from diffcf.checkpoints import TrainingRecord
from diffcf.evaluator.card import ReadingError
from diffcf.evaluator.reader import read_factors
from diffcf.graph import CausalGraph
from diffcf.mixing import RegionMixer
from diffcf.networks import NetworkFactory, NetworkSpec, build_network, network_spec
from diffcf.projector import LocalPosteriorProjector
from diffcf.schedule import check_share, warm_cosine

__all__ = ["FactorEvaluator"]


class FactorEvaluator(LightningModule):
    """A network from images to factors, with the weights that were best on validation.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        network: network class of local posteriors, with the interface of
            :class:`diffcf.projector.LocalPosteriorProjector`.
        latents: network class that encodes whole pictures, for CLD
            (:class:`diffcf.evaluator.latents.LatentEncoder`); None for none.
        mixing: region mixing; None trains on observational images alone, as is right where factors
            do not determine each other.
        learning_rate, weight_decay: of AdamW.
        warmup: share of the training in which the rate rises; it then falls as a cosine to zero.
        clip: gradient norm allowed.

    Batches are ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1], "index": [B]}``.

    Attributes:
        best_weights: the evaluator's state at the validation with the least ``val/error``, on the
            CPU; empty before the first.
        best_latents: the state of ``latents`` at that validation; empty where there are none.
        best_error, best_step: of that validation.

    Raises:
        FloatingPointError: when the loss is not finite, with the step named.
    """

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        network: NetworkFactory = LocalPosteriorProjector,
        latents: NetworkFactory | None = None,
        mixing: RegionMixer | None = None,
        learning_rate: float = 2.5e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.065,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.graph = graph if isinstance(graph, CausalGraph) else CausalGraph.from_dict(graph)
        self.spec: NetworkSpec = network_spec(network)
        self.network = build_network(self.spec, self.graph)
        self.latent_spec = network_spec(latents) if latents is not None else None
        spec = self.latent_spec
        self.latents = build_network(spec, self.graph) if spec is not None else None
        self.mixing = mixing
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.warmup, self.clip = check_share("warmup", warmup), clip
        self.validation_error = ReadingError(self.graph)
        self.best_weights: dict[str, Tensor] = {}
        self.best_latents: dict[str, Tensor] = {}
        self.best_error, self.best_step = math.inf, 0
        self.training_record = TrainingRecord()
        self._judged: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})

    def loss(self, image: Tensor, factors: Tensor) -> Tensor:
        """Negative log-likelihood of every place of composites, scalar."""
        if self.mixing is not None:
            image, targets = self.mixing.for_projector(image, factors, self.network)
        else:
            targets = self.network.everywhere(factors, image)
        novelty = self.network.novelty(image)
        posterior = self.network(image, image.new_zeros(len(image)))
        return self.network.local_loss(posterior, targets, novelty)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch["image"], batch["factors"])
        if self.latents is not None:
            # They share no weights: the sum trains each as if it were alone.
            latent_loss = self.latents.loss(batch["image"])
            self.log("train/latents", latent_loss)
            loss = loss + latent_loss
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The evaluator's loss is {loss.item()} at step {self.global_step}: lower "
                "learning_rate, or look at the batch."
            )
        self.log("train/loss", loss, prog_bar=True)
        return loss

    # --- selection ---

    def on_validation_epoch_start(self) -> None:
        self.validation_error.reset()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        if batch_idx == 0:
            # What is judged is what is kept, even if a callback has put averaged weights in.
            self._judged = (_copy(self.network), _copy(self.latents))
        read = read_factors(self.network, self.graph, batch["image"])
        self.validation_error.update(read, batch["factors"], batch["index"])

    def on_validation_epoch_end(self) -> None:
        # Gathered from all processes, so that they log and select alike.
        errors = self.validation_error.compute()
        error = errors.pop("error")
        self.log("val/error", error, prog_bar=True, sync_dist=True)
        self.log_dict({f"val/{name}": value for name, value in errors.items()}, sync_dist=True)
        if not self.trainer.sanity_checking and float(error) < self.best_error:
            self.best_error, self.best_step = float(error), self.global_step
            self.best_weights, self.best_latents = self._judged

    # --- optimisation ---

    def on_fit_start(self) -> None:
        self.training_record.start()

    def on_train_end(self) -> None:
        self.training_record.update(self.global_step, self.device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=True,
        )
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


def _copy(network: nn.Module | None) -> dict[str, Tensor]:
    """A copy of the state on the CPU."""
    state = network.state_dict() if network is not None else {}
    return {name: value.detach().cpu().clone() for name, value in state.items()}
