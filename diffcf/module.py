r"""The LightningModule: generator, projector and NSCM trained together.

.. math::
    L = w_v\,\mathbb{E}\lVert v - v_\theta(x_t, t, z)\rVert^2
      - w_z\,\log p(z \mid x_t) - w_s\,\log p(z) + w_g\,(\text{graph penalties})

for the generator, the projector, the causal mechanisms and, when it is learned, the graph. Every
term is logged by name as ``train/<term>`` and has its weight in YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from diffcf.checkpoints import (
    SPEC_KEY,
    CheckpointError,
    TrainingRecord,
    read_checkpoint,
    spec_of,
)
from diffcf.counterfactual import CounterfactualEngine, Sampling
from diffcf.diffusion import add_noise, haunted_noise, stratified_times, velocity
from diffcf.generator import UNet
from diffcf.graph import CausalGraph
from diffcf.mixing import RegionMixer
from diffcf.networks import NetworkFactory, NetworkSpec, build_network, network_spec
from diffcf.nscm import NSCM
from diffcf.projector import LocalPosteriorProjector
from diffcf.schedule import warm_cosine

__all__ = ["DiffusionCounterfactuals"]


class DiffusionCounterfactuals(LightningModule):
    """Generator, projector and NSCM over one causal graph.

    Args:
        graph: the causal graph, or its description (:meth:`CausalGraph.to_dict`).
        generator: network class for v: ``(x_t, t, factors, known) -> v``.
        projector: network class that reads the factors from noisy images.
        nscm: network class of the structural causal model.
        mixing: region mixing; None trains on observational images alone.
        weights: weight of each loss term; terms that are not named have weight 1.
        factor_dropout: probability that the generator is not told a factor.
        all_dropout: probability that it is told none, which keeps it usable unconditionally.
        ghost: amplitude of other images' ghosts in the generator's noise; see
            :func:`diffcf.diffusion.haunted_noise`.
        projector_share: part of each batch that the projector is trained on.
        head_start: steps in which projector and NSCM train alone, until the projector can tell
            which region speaks for which factor.
        learning_rate: of generator and NSCM, by AdamW.
        projector_learning_rate, weight_decay: likewise.
        warmup: steps of linear warm-up, after which a rate falls as a cosine to zero.
        clip: gradient norm allowed to each network; they are clipped apart, so that a steep
            likelihood in one does not hold up the others.

    Batches are ``{"image": [B, C, H, W] in [-1, 1], "factors": [B, K] in [0, 1]}``.

    Raises:
        FloatingPointError: when a loss term is not finite, with the step and the term named.
    """

    def __init__(
        self,
        graph: CausalGraph | dict[str, Any],
        generator: NetworkFactory = UNet,
        projector: NetworkFactory = LocalPosteriorProjector,
        nscm: NetworkFactory = NSCM,
        mixing: RegionMixer | None = None,
        weights: dict[str, float] | None = None,
        factor_dropout: float = 0.05,
        all_dropout: float = 0.1,
        ghost: float = 0.5,
        projector_share: float = 0.5,
        head_start: int = 0,
        learning_rate: float = 1.5e-3,
        projector_learning_rate: float = 2.5e-3,
        weight_decay: float = 0.01,
        warmup: int = 200,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.graph = graph if isinstance(graph, CausalGraph) else CausalGraph.from_dict(graph)
        factories = {"generator": generator, "projector": projector, "nscm": nscm}
        self.spec: dict[str, NetworkSpec] = {n: network_spec(f) for n, f in factories.items()}
        self.generator = build_network(self.spec["generator"], self.graph)
        self.projector = build_network(self.spec["projector"], self.graph)
        self.nscm = build_network(self.spec["nscm"], self.graph)
        self.mixing = mixing
        self.weights = dict(weights or {})
        self.factor_dropout, self.all_dropout = factor_dropout, all_dropout
        self.ghost, self.projector_share = ghost, projector_share
        self.head_start = head_start
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.projector_learning_rate = projector_learning_rate
        self.warmup, self.clip = warmup, clip
        self.training_record = TrainingRecord()

    # --- losses ---

    def losses(self, image: Tensor, factors: Tensor) -> dict[str, Tensor]:
        """Every loss term by name (scalars), and ``mixed``, the share of composites."""
        count = max(2, round(self.projector_share * len(image)))
        terms = {"projector": self._projector_loss(image[:count], factors[:count])}
        # Composites break the causal mechanisms on purpose: the NSCM sees observed factors only.
        terms |= self.nscm.loss(factors)
        mixed = image.new_zeros(())
        if self.training and self.global_step < self.head_start:
            # Every parameter takes part in every step, as DDP expects.
            idle = [parameter.sum() for parameter in self.generator.parameters()]
            terms["generator"] = 0.0 * torch.stack(idle).sum()
        elif self.training and self.mixing is not None:
            composite = self.mixing.for_generator(image, factors, self.projector)
            mixed = composite.mixed.float().mean()
            terms["generator"] = self._generator_loss(composite.image, composite.factors)
        else:
            terms["generator"] = self._generator_loss(image, factors)
        return terms | {"mixed": mixed}

    def _generator_loss(self, image: Tensor, factors: Tensor) -> Tensor:
        known = torch.rand_like(factors) >= self.factor_dropout
        known &= torch.rand_like(factors[:, :1]) >= self.all_dropout
        t, noise = stratified_times(image), haunted_noise(image, self.ghost)
        v = self.generator(add_noise(image, noise, t), t, factors, known)
        # In units of what is left to learn at each t, so that every t counts alike: without it the
        # high noise levels, where the factors decide what is drawn, would weigh a tenth.
        error = (v.float() - velocity(image, noise, t)) / self.generator.residual_scale(t)
        return error.square().mean()

    def _projector_loss(self, image: Tensor, factors: Tensor) -> Tensor:
        if self.mixing is not None:
            image, targets = self.mixing.for_projector(image, factors, self.projector)
        else:
            targets = self.projector.everywhere(factors, image)
        novelty = self.projector.novelty(image)
        # Half of the images clean: that is where the factual is read.
        t = stratified_times(image) * (torch.rand(len(image), device=image.device) < 0.5)
        posterior = self.projector(add_noise(image, torch.randn_like(image), t), t)
        return self.projector.local_loss(posterior, targets, novelty)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        terms = self.losses(batch["image"], batch["factors"])
        self.log("train/mixed", terms.pop("mixed"))
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"Loss term '{name}' is {value.item()} at step {self.global_step}: lower "
                    "learning_rate, or look at the batch."
                )
        weighted = [self.weights.get(name, 1.0) * value for name, value in terms.items()]
        total = torch.stack(weighted).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        self.log("train/loss", total, prog_bar=True)
        return total

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        terms = self.losses(batch["image"], batch["factors"])
        terms.pop("mixed")
        size = len(batch["image"])
        self.log_dict(
            {f"val/{name}": value for name, value in terms.items()}, batch_size=size, sync_dist=True
        )

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: callbacks measure."""

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """What the projector reads and the NSCM abducts; counterfactuals are a callback's work."""
        image = batch["image"]
        posterior = self.projector(image, image.new_zeros(len(image)))
        factors = self.graph.decode(posterior.mean)
        exogenous = self.nscm.abduct(factors)
        return {"factors": factors, "variance": posterior.variance, "exogenous": exogenous}

    # --- optimisation ---

    def configure_optimizers(self) -> OptimizerLRScheduler:
        rates = {
            self.generator: (self.learning_rate, self.head_start),
            self.projector: (self.projector_learning_rate, 0),
            self.nscm: (self.learning_rate, 0),
        }
        groups = [{"params": n.parameters(), "lr": rate} for n, (rate, _) in rates.items()]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.weight_decay, fused=True)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            [partial(warm_cosine, start, total, self.warmup) for _, start in rates.values()],
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for network in (self.generator, self.projector, self.nscm):
            nn.utils.clip_grad_norm_(network.parameters(), self.clip)

    # --- use ---

    def engine(self, sampling: Sampling = Sampling()) -> CounterfactualEngine:  # noqa: B008
        """A counterfactual engine on these networks."""
        return CounterfactualEngine(self.generator, self.projector, self.nscm, sampling)

    # --- checkpoints ---

    def on_fit_start(self) -> None:
        self.training_record.start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[SPEC_KEY] = {
            "graph": self.graph.to_dict(),
            "networks": self.spec,
            "training": self.training_record.update(self.global_step, self.device),
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
    ) -> DiffusionCounterfactuals:
        """The model of a checkpoint, with its (EMA) weights, in evaluation mode.

        Raises:
            CheckpointError: when the file is missing, unreadable or not one of ours.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        spec = spec_of(checkpoint)
        model = cls(spec["graph"], **spec["networks"])
        model.training_record = TrainingRecord(spec["training"])
        model.load_state_dict(checkpoint["state_dict"])
        return model.to(map_location).eval()
