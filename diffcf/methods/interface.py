"""What any method that answers counterfactual questions offers, ours and its peers alike.

``method.abduct(images, factors)`` gives a :class:`World`, which predicts under any number of
interventions. :func:`predict_sequence` makes interventions one after another. Everything that
measures counterfactuals (:mod:`diffcf.evaluation`) knows a method by this interface only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from diffcf.causal import Do, Intervention

NO_READER = "This method reads no factors off images: give the observed ones to abduct."


@dataclass(frozen=True)
class Counterfactual:
    """The answer to one intervention.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: z_cf ``[B, K]``, what the method says the factors are.
        intervention: what was set, everything set before in a sequence included.
        trace: (t, λ_t ``[B]``) of each guided step, in the order of sampling.
    """

    image: Tensor
    factors: Tensor
    intervention: Intervention
    trace: list[tuple[float, Tensor]] = field(default_factory=list)


class World(Protocol):
    """What a method inferred from images: all that stays the same under any intervention."""

    @property
    def image(self) -> Tensor:
        """``[B, C, H, W]`` in [-1, 1], the images the world was inferred from."""

    @property
    def factors(self) -> Tensor:
        """``[B, K]`` in [0, 1] units, the factual factors."""

    def factors_under(self, do: Do | Intervention) -> Tensor:
        """z_cf ``[B, K]`` under ``do``, as :meth:`predict` has it, without drawing."""

    def predict(self, do: Do | Intervention) -> Counterfactual:
        """The counterfactual under ``do``; under no intervention, the factual drawn again."""

    def reabduct(self, answer: Counterfactual) -> World:
        """The same world, with its causal noise, but its pictures inferred from ``answer``."""


class CounterfactualMethod(Protocol):
    """Answers "what would this image have looked like, had X been different?"."""

    def abduct(self, image: Tensor, factors: Tensor | None = None) -> World:
        """Infer the world of images ``[B, C, H, W]`` in [-1, 1].

        ``factors`` ``[B, K]`` where they are observed; None has the method read them.
        """


def predict_sequence(world: World, interventions: Sequence[Intervention]) -> list[Counterfactual]:
    """Interventions made one after another, each upon the image the last one left.

    The causal noise is that of ``world`` throughout; what was set stays set until it is set anew.
    Errors of drawing add up as they would for a person who edits an edited picture.
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
        raise ValueError(f"Images must be [B, C, H, W], got shape {tuple(image.shape)}.")
    broken = ~torch.isfinite(image).flatten(1).all(dim=1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise ValueError(f"Image {first} of the batch has NaN or infinite pixels: drop it.")
