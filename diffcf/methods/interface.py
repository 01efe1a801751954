"""What every method offers, ours and its peers alike.

A :class:`Method` abducts images into a :class:`World`, which answers ``predict(do)`` for any number
of interventions. :mod:`diffcf.evaluation` knows a method by this interface only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do, Intervention
from diffcf.io import DataError

NO_READER = "This method reads no factors off images: give the observed ones to abduct."


@dataclass(frozen=True)
class Counterfactual:
    """The answer to one intervention.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: z_cf ``[B, K]``, the factors that the image should show.
        intervention: what was set, everything set before in a sequence included.
        trace: (t, λ_t ``[B]``) of each guided step, in the order of sampling.
    """

    image: Tensor
    factors: Tensor
    intervention: Intervention
    trace: list[tuple[float, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class World(ABC):
    """What a method inferred from images: all that stays the same under any intervention.

    Attributes:
        graph: over the factors.
        image: ``[B, C, H, W]`` in [-1, 1], the images the world was inferred from.
        factors: ``[B, K]`` in [0, 1] units, the factual factors.
        exogenous: ``[B, E]``, the causal noise; None where the method has none per factor.
    """

    graph: CausalGraph
    image: Tensor
    factors: Tensor
    exogenous: Tensor | None

    @torch.no_grad()
    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do``, whose values are in [0, 1] units.

        Under no intervention it is the factual, drawn again.
        """
        return self.answer(self.intervention(do))

    @torch.no_grad()
    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, the same as of :meth:`predict`, without drawing."""
        return self.target(self.intervention(do))

    def intervention(self, do: Do | Intervention) -> Intervention:
        """``do`` as tensors for this batch."""
        return Intervention.from_do(do, self.graph, len(self.image), self.image.device)

    @abstractmethod
    def target(self, do: Intervention) -> Tensor:
        """Act: the factors z_cf ``[B, K]`` under ``do``."""

    @abstractmethod
    def answer(self, do: Intervention) -> Counterfactual:
        """Act and predict: the counterfactual under ``do``."""

    @abstractmethod
    def reabduct(self, answer: Counterfactual) -> World:
        """The same world, with its causal noise, but the rest inferred from ``answer``'s image."""

    def select(self, rows: Tensor) -> World:
        """The worlds ``rows`` (long ``[N]``) of the batch, each as often as it is named.

        Raises:
            NotImplementedError: where a method does not offer it.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot repeat images: abduct anew.")


class Method(Protocol):
    """Answers "what would this image have looked like, had X been different?"."""

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> World:
        """Infer the world of images ``[B, C, H, W]`` in [-1, 1].

        ``factors`` are observed ones, ``[B, K]`` in [0, 1] units; None has the method read them.
        """
        ...


def predict_sequence(world: World, interventions: Sequence[Intervention]) -> list[Counterfactual]:
    """Interventions made one after another, each upon the image the last one left.

    The causal noise is that of ``world`` throughout; what was set stays set until it is set anew.
    Errors of drawing add up, as when an edited picture is edited again.
    """
    held = Intervention.none(world.factors)
    answers: list[Counterfactual] = []
    for do in interventions:
        held = held.then(do)
        if answers:
            world = world.reabduct(answers[-1])
        answers.append(world.predict(held))
    return answers


def check_image(image: Tensor) -> None:
    """Raises ValueError unless images are ``[B, C, H, W]`` and finite."""
    if image.dim() != 4:
        raise DataError(f"Images must be [B, C, H, W], got shape {tuple(image.shape)}.")
    broken = ~torch.isfinite(image).flatten(1).all(dim=1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise DataError(f"Image {first} of the batch has NaN or infinite pixels: drop it.")
