"""What every method offers, ours and its peers alike.

A :class:`Method` abducts images into a :class:`World`, which answers ``predict(do)`` for any number
of interventions. :mod:`diffcf.evaluation` knows a method by this interface only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do, Intervention, Ties, image_keys
from diffcf.io import DataError, SettingsError, on_host

NO_READER = "This method reads no factors off images: give the observed ones to abduct."


@dataclass(frozen=True)
class Counterfactual:
    """The answer to one intervention.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: z_cf ``[B, K]``, the factors that the image should show.
        intervention: what was set, everything set before in a sequence included.
        trace: (t, λ_t ``[B]``) of each guided step, in the order of sampling.
        clipped: which factors the causal model predicted beyond their range, bool ``[B, K]``; z_cf
            has the end of the range in their place.
        undetermined: whose change the training data do not teach (:mod:`diffcf.causal.ties`), bool
            ``[B, K]``; None where that is not known.
    """

    image: Tensor
    factors: Tensor
    intervention: Intervention
    trace: list[tuple[float, Tensor]] = field(default_factory=list)
    clipped: Tensor | None = None
    undetermined: Tensor | None = None


@dataclass(frozen=True)
class World(ABC):
    """What a method inferred from images: all that stays the same under any intervention.

    Attributes:
        graph: over the factors.
        image: ``[B, C, H, W]`` in [-1, 1], the images the world was inferred from.
        factors: ``[B, K]`` in [0, 1] units, the factual factors.
        exogenous: ``[B, E]``, the causal noise; None where the method has none per factor.
        clipped: which factors were read or given beyond their range, bool ``[B, K]``; ``factors``
            has the end of the range in their place.
        ties: of the factors in the training data; None where they are not known.
        keys: of the images, ``[B]`` (:mod:`diffcf.causal.keys`), from which soft interventions
            draw; None derives them from what ``image`` shows.
    """

    graph: CausalGraph
    image: Tensor
    factors: Tensor
    exogenous: Tensor | None
    clipped: Tensor | None = field(default=None, kw_only=True)
    ties: Ties | None = field(default=None, kw_only=True)
    keys: Tensor | None = field(default=None, kw_only=True)

    @torch.no_grad()
    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do``, whose values are in [0, 1] units.

        Under no intervention it is the factual, drawn again.
        """
        intervention = self.intervention(do)
        target, beyond = self.in_range(self.target(intervention))
        answer = self.answer(intervention, target)
        beyond = beyond if intervention.clipped is None else beyond | intervention.clipped
        undetermined = self.undetermined(target, self.followed(intervention, target))
        return replace(answer, clipped=beyond, undetermined=undetermined)

    @torch.no_grad()
    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, the same as of :meth:`predict`, without drawing."""
        return self.in_range(self.target(self.intervention(do)))[0]

    def undetermined(self, target: Tensor, followed: Tensor | None) -> Tensor | None:
        """Factors whose change to ``target`` ``[B, K]`` the training data do not teach, bool
        ``[B, K]``; None where that is not known. ``followed`` is :meth:`followed`'s."""
        if self.ties is None:
            return None
        return self.ties.undetermined(self.factors, target, followed)

    def followed(self, do: Intervention, target: Tensor) -> Tensor | None:
        """``target`` ``[B, K]`` of ``do``, with what follows from their causes in place of effects
        that are set (:class:`diffcf.causal.Function`); None where the data have no functions."""
        if self.ties is None or not self.ties.functions:
            return None
        effects = self.ties.effects.to(do.mask.device, non_blocking=True)
        free = self.target(replace(do, mask=do.mask & ~effects))
        return torch.where(do.mask & effects, self.in_range(free)[0], target)

    def intervention(self, do: Do | Intervention, factors: Tensor | None = None) -> Intervention:
        """``do`` as tensors for this batch.

        Shifts, scales and conditions go by ``factors`` ``[B, K]``; None for the factual ones.
        """
        if isinstance(do, Intervention):
            return do
        keys = image_keys(self.image) if self.keys is None else self.keys
        now = self.factors if factors is None else factors
        device = self.image.device
        return Intervention.from_do(do, self.graph, len(self.image), device, now, keys)

    def in_range(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Factors ``[B, K]`` clipped to their ranges, and which had to be, bool ``[B, K]``.

        What is drawn is thus what ``do`` could ask for: networks know nothing beyond the range.
        """
        return self.graph.clip(target)

    @abstractmethod
    def target(self, do: Intervention) -> Tensor:
        """Act: the factors ``[B, K]`` under ``do`` by the causal model, wherever they lie."""

    @abstractmethod
    def answer(self, do: Intervention, target: Tensor) -> Counterfactual:
        """Predict: the counterfactual under ``do`` that shows the factors ``target`` ``[B, K]``."""

    @abstractmethod
    def reabduct(self, answer: Counterfactual) -> World:
        """The same world, with its causal noise, but the rest inferred from ``answer``'s image."""

    def redrawn(self, keys: Tensor, fresh: float) -> World:
        """The same images with what abduction leaves open drawn anew, by ``keys`` ``[B]``.

        ``fresh`` in [0, 1] is the share of an image's noise that is drawn where its content
        changes (:mod:`diffcf.methods.draws`). Under no intervention the answer is the factual.

        Raises:
            SettingsError: where a method does not offer it.
        """
        raise SettingsError(
            f"{type(self).__name__} draws nothing that abduction leaves open: ask without draws, "
            "or take weights of a diffusion method with a causal model."
        )

    def select(self, rows: Tensor) -> World:
        """The worlds ``rows`` (long ``[N]``) of the batch, each as often as it is named.

        Raises:
            NotImplementedError: where a method does not offer it.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot repeat images: abduct anew.")

    def _selected(self, rows: Tensor) -> Self:
        """:meth:`select` of what every world has; a subclass adds what it has besides."""
        return replace(
            self,
            image=self.image[rows],
            factors=self.factors[rows],
            exogenous=rows_of(self.exogenous, rows),
            clipped=rows_of(self.clipped, rows),
            keys=rows_of(self.keys, rows),
        )


def rows_of(part: Tensor | None, rows: Tensor) -> Tensor | None:
    """Those rows of what a batch has, or None where it has none."""
    return None if part is None else part[rows]


class Method(Protocol):
    """Answers "what would this image have looked like, had X been different?"."""

    def abduct(
        self, image: Tensor, factors: Tensor | None = None, keys: Tensor | None = None
    ) -> World:
        """Infer the world of images ``[B, C, H, W]`` in [-1, 1].

        ``factors`` are observed ones, ``[B, K]`` in [0, 1] units; None has the method read them.
        ``keys`` ``[B]`` (:mod:`diffcf.causal.keys`) are what any noise is drawn from; None takes
        :func:`diffcf.causal.image_keys`.
        """
        ...


def predict_sequence(
    world: World, interventions: Sequence[Do | Intervention]
) -> list[Counterfactual]:
    """Interventions made one after another, each upon the image the last one left.

    The causal noise is that of ``world`` throughout; what was set stays set until it is set anew.
    A shift is one of the last step's factors. Errors of drawing add up, as when an edited picture
    is edited again.
    """
    first, held = world, Intervention.none(world.factors)
    answers: list[Counterfactual] = []
    for do in interventions:
        if not isinstance(do, Intervention):
            do = first.intervention(do, answers[-1].factors if answers else None)
        held = held.then(do)
        if answers:
            world = world.reabduct(answers[-1])
        answers.append(world.predict(held))
    return answers


def check_image(image: Tensor) -> None:
    """Raises ValueError unless images are ``[B, C, H, W]`` and, where on the host, finite."""
    if image.dim() != 4:
        raise DataError(f"Images must be [B, C, H, W], got shape {tuple(image.shape)}.")
    if not on_host(image):
        return
    broken = ~torch.isfinite(image).flatten(1).all(dim=1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise DataError(f"Image {first} of the batch has NaN or infinite pixels: drop it.")
