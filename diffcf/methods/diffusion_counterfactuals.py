r"""The LightningModule: generator, projector and NSCM trained together.

.. math::
    L = w_v\,\mathbb{E}\lVert v - v_\theta(x_t, t, z)\rVert^2
      - w_z\,\log p(z \mid x_t) - w_s\,\log p(z) + w_g\,(\text{graph penalties})

for the generator, the projector, the causal mechanisms and, when it is learned, the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffcf.causal import (
    NSCM,
    Balance,
    BalanceOf,
    LocalPosterior,
    Marks,
    StructuralModel,
    check_strength,
    filled,
    label_weights,
    mechanism_terms,
    row_keys,
    training_factors,
    weighted_labels,
)
from diffcf.diffusion import (
    Generator,
    add_noise,
    leaky_noise,
    random_condition_mask,
    stratified_times,
    velocity_loss,
)
from diffcf.io import SettingsError
from diffcf.methods.compilation import Compilation, Compile
from diffcf.methods.engine import CounterfactualEngine
from diffcf.methods.hinted import Given, HintedModule
from diffcf.methods.interface import Method
from diffcf.methods.pseudo_labels import with_pseudo_labels
from diffcf.methods.recorded import GraphOrSpec
from diffcf.methods.sampling import Sampling
from diffcf.methods.schedule import check_amount, check_share
from diffcf.networks import (
    Candidates,
    LocalPosteriorProjector,
    LocalProjector,
    NetworkFactory,
    RegionMixer,
    UNet,
)


class DiffusionCounterfactuals(HintedModule):
    """Generator, projector and NSCM over one causal graph.

    Args:
        graph, kwargs: see :class:`diffcf.methods.encoded_module.EncodedModule`, ``first_stage``
            among them.
        generator: network class for v, a :class:`diffcf.diffusion.Generator`.
        projector: network class that reads the factors from noisy images, a
            :class:`diffcf.networks.LocalProjector`.
        nscm: network class of the structural causal model.
        mixing: region mixing; None trains on observational images alone.
        factor_dropout: probability that the generator is not conditioned on a factor.
        all_dropout: probability that it is conditioned on none.
        leakage: of other images into its noise (:func:`diffcf.diffusion.process.leaky_noise`).
        projector_share: part of each batch that the projector is trained on.
        head_start: share of the training, in [0, 1), in which projector and NSCM train alone,
            until the projector has learned where each factor is read.
        projector_end: share of the training, from which the projector is learned: its rate has
            fallen to zero, and the time is the generator's.
        projector_learning_rate: of the projector; the others take ``learning_rate``.
        balance: how far rare levels of discrete factors count as much as frequent ones to generator
            and projector (``strength`` of :class:`diffcf.causal.LevelBalance`); the NSCM, which
            has to know how rare they are, learns from the data as they come.
        balance_of: "levels", each factor by itself, or "combinations" of them all
            (:class:`diffcf.causal.CombinationBalance`), where levels go together in the data.
        pseudo_labels: the standard deviation, in [0, 1] units, up to which a reading stands in for
            a missing label that the generator lacks (:mod:`diffcf.methods.pseudo_labels`); 0 is for
            never.
        hints: where in the picture factors are written, by name (:mod:`diffcf.methods.hints`);
            answers heed them, trained with them or not. "auto" finds them in images in which
            somebody set a factor (:mod:`diffcf.methods.hint_finding`).
        compile: whether steps and networks are compiled (:mod:`diffcf.methods.compilation`);
            "auto" does on a card.
    """

    reads = True
    generator: Generator
    projector: LocalProjector
    nscm: StructuralModel

    def __init__(
        self,
        graph: GraphOrSpec,
        generator: NetworkFactory = UNet,
        projector: NetworkFactory = LocalPosteriorProjector,
        nscm: NetworkFactory = NSCM,
        mixing: RegionMixer | None = None,
        factor_dropout: float = 0.05,
        all_dropout: float = 0.1,
        leakage: float = 0.5,
        projector_share: float = 0.5,
        head_start: float = 0.0,
        projector_end: float = 1.0,
        projector_learning_rate: float = 2.5e-3,
        balance: float = 0.0,
        balance_of: BalanceOf = "levels",
        pseudo_labels: float = 0.0,
        hints: Given = None,
        compile: Compile = False,
        **kwargs: Any,
    ) -> None:
        networks = {"generator": generator, "projector": projector, "nscm": nscm}
        super().__init__(graph, networks, **kwargs)
        self.take_hints(hints)
        found = self.finds_hints or (self.hints is not None and self.hints.found)
        if found and self.first_stage is not None and mixing is not None:
            raise SettingsError(
                "Region mixing in latents cannot find what is background or object: give hints as "
                "rectangles or masks, or set mixing to null."
            )
        self.mixing = mixing
        self.breaks_functions = mixing is not None  # which composites do
        self.factor_dropout, self.all_dropout = factor_dropout, all_dropout
        # What was never left out answers have to know.
        dropped = {"factor_dropout": factor_dropout, "all_dropout": all_dropout}
        self.settings |= {name: 0.0 for name, share in dropped.items() if not share}
        self.compilation = Compilation(compile)
        self.leakage, self.projector_share = leakage, projector_share
        self.head_start = check_share("head_start", head_start)
        self.projector_end = projector_end
        if not self.head_start < projector_end <= 1:
            raise SettingsError(
                f"projector_end is a share of the training above head_start, {head_start:g}, up to "
                f"1; got {projector_end}."
            )
        self.balance = check_strength(balance)
        self.balance_of = balance_of
        self.label_balance: Balance | None = None
        self.pseudo_labels = check_amount("pseudo_labels", pseudo_labels)
        self.projector_learning_rate = check_amount(
            "projector_learning_rate", projector_learning_rate
        )

    def losses(
        self, image: Tensor, factors: Tensor, marks: Marks | None = None
    ) -> dict[str, Tensor]:
        """Every loss term by name (scalars), and ``mixed``, the share of composites.

        ``image`` is what :meth:`seen` gives of a batch.
        """
        idle = self.training and self.progress < self.head_start
        learned = self.training and self.progress >= self.projector_end
        terms = self.compilation(self._terms)
        if marks is None:
            return terms(image, factors, idle, learned)
        # The projector is trained on the first rows: those of which most is known.
        order = marks.observed.sum(dim=1).argsort(descending=True, stable=True)
        image, factors, marks = image[order], factors[order], marks.rows(order)
        told = None
        if self.pseudo_labels:
            known = (self.get_submodule("projector"), self.nscm, image, factors, marks)
            told = with_pseudo_labels(*known, self.pseudo_labels)
        return terms(image, factors, idle, learned, marks, told)

    def _terms(
        self,
        image: Tensor,
        factors: Tensor,
        idle: bool,
        learned: bool,
        marks: Marks | None = None,
        told: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of a step in which the generator is ``idle`` or the projector ``learned``.

        To be compiled. With ``marks``, factors ``[B, K]`` may be NaN; ``told`` are those with
        pseudo-labels.
        """
        # The NSCM sees observed factors only: composites break the mechanisms on purpose, and the
        # error of a reading is no exogenous noise.
        causal = mechanism_terms(self.nscm, factors, marks)
        told = factors if told is None else told
        partial = marks is not None
        count = max(2, round(self.projector_share * len(image)))
        if idle:  # the generator's part of the batch is not looked at
            image, factors = image[:count], factors[:count]
        found = None
        if self.mixing is not None:
            found = self.mixing.candidates(image, self.projector, self.written(image))
        if learned:
            terms = {"projector": self._idle("projector")} | causal
        else:
            known = (image, factors, count, found, partial)
            terms = {"projector": self._projector_loss(*known)} | causal
        mixed = image.new_zeros(())
        if idle:
            terms["generator"] = self._idle("generator")
        elif self.training and self.mixing is not None:
            composite = self.mixing.for_generator(image, told, self.projector, found)
            mixed = composite.mixed.float().mean()
            terms["generator"] = self._generator_loss(composite.image, composite.factors, partial)
        else:
            terms["generator"] = self._generator_loss(image, told, partial)
        return terms | {"mixed": mixed}

    def _idle(self, name: str) -> Tensor:
        """0, as a function of every parameter of a network, since DDP wants a gradient of each."""
        parameters = self.get_submodule(name).parameters()
        return 0.0 * torch.stack([p.sum() for p in parameters]).sum()

    def _generator_loss(self, image: Tensor, factors: Tensor, partial: bool) -> Tensor:
        """If factors are ``partial``, NaN is a missing one, on which it is not conditioned."""
        condition_mask = random_condition_mask(factors, self.factor_dropout, self.all_dropout)
        t, noise = stratified_times(image), leaky_noise(image, self.leakage)
        weight = None if self.label_balance is None else self.label_balance(factors)
        if partial:
            factors, known = filled(factors)
            condition_mask = condition_mask & known
            weight = None if weight is None else torch.where(known, weight, 1.0)
        weight = None if weight is None else weight.mean(dim=1)
        condition = factors, condition_mask
        return velocity_loss(self.generator, image, noise, t, *condition, weight=weight)

    def _projector_loss(
        self, image: Tensor, factors: Tensor, count: int, found: Candidates | None, partial: bool
    ) -> Tensor:
        """Of the first ``count`` images, mixed by the candidates ``found`` where there are any."""
        if self.mixing is not None:
            known = (image, factors, self.projector, found, count)
            image, targets = self.mixing.for_projector(*known)
        else:
            image = image[:count]
            targets = self.projector.everywhere(factors[:count], image)
        saliency = self.projector.saliency(image)
        # Half of the images clean: that is where the factual is read.
        t = stratified_times(image) * (torch.rand(len(image), device=image.device) < 0.5)
        posterior = self.projector(add_noise(image, torch.randn_like(image), t), t)
        targets, weight = weighted_labels(targets, self.label_balance, partial)
        return self.projector.local_loss(posterior, targets, saliency, weight)

    def read(self, image: Tensor) -> Tensor:
        return self._read(image).mean

    def _read(self, image: Tensor) -> LocalPosterior:
        seen = self.encoded(image)
        posterior = self.projector(seen, seen.new_zeros(len(seen)))
        if self.hints is None:
            return posterior
        return posterior.within(self.hints.masks(image), self.graph.code_owner)

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The refined reading and its exogenous noise; counterfactuals are a callback's work."""
        image = batch["image"]
        posterior = self._read(image)
        factors = self.nscm.refine(posterior.mean, posterior.variance)
        exogenous = self.nscm.abduct(factors, row_keys(batch["index"]))
        return {"factors": factors, "variance": posterior.variance, "exogenous": exogenous}

    def rate_of(self, name: str) -> float:
        return self.projector_learning_rate if name == "projector" else self.learning_rate

    def course_of(self, name: str) -> tuple[float, float]:
        start = self.head_start if name == "generator" else 0.0
        return start, self.projector_end if name == "projector" else 1.0

    def method(self, sampling: Sampling = Sampling()) -> Method:  # noqa: B008
        generator, projector = self.compilation(self.generator), self.compilation(self.projector)
        networks = generator, projector, self.nscm
        ties = self.untaught
        if sampling.unconditional and not self.all_dropout:
            raise SettingsError(
                "The generator was never trained without its condition (all_dropout 0), which this "
                "sampling asks it for: set conditional to true and leave free out, or set "
                "from_factual of free to true."
            )
        hints = self.heeded(self.factor_dropout)
        engine = CounterfactualEngine(*networks, sampling, self.bound, hints, ties)
        return self.in_images(engine)

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.compilation.start(device)
        if stage == "fit" and self.balance:
            factors = training_factors(getattr(self.trainer, "datamodule", None))
            known = self.graph, factors.to(device), self.balance, self.balance_of
            self.label_balance = label_weights(*known)

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        self.compilation.begin_step()

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        self.compilation.show(self.global_step)
