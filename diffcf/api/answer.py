"""What a model answers, and the abducted images that it answers about, any number of times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, overload

import torch
from torch import Tensor

from diffcf.causal import NSCM, Do, Intervention, Units, backtrack, scaled_do
from diffcf.io import SettingsError
from diffcf.methods import FRESH, Draws, World, check_draws, drawn_worlds, predict_sequence

if TYPE_CHECKING:
    from diffcf.api.model import Model


@dataclass(frozen=True)
class Answer:
    """A counterfactual.

    Attributes:
        image: ``[B, C, H, W]`` in [-1, 1].
        factors: of the factual, ``[B, K]``, in the units that were asked for; of integer factors
            the nearest whole numbers.
        target: of the counterfactual by the causal model, likewise.
        exogenous: the causal noise that both share, ``[B, E]``; None of methods without.
        clipped: which factors were read or predicted beyond their range, bool ``[B, K]``, and have
            its end in ``factors`` or ``target``.
        undetermined: whose change the training data do not teach, bool ``[B, K]``
            (:mod:`diffcf.causal.ties`): ``target`` has it, the image does not show it, unless it is
            to be drawn anyway (``undetermined`` of :class:`diffcf.methods.Sampling`).
        intervened: which factors were set, bool ``[B, K]``, those of earlier steps of a sequence
            included: under a condition not the same in all images. ``target`` has their values.
    """

    image: Tensor
    factors: Tensor
    target: Tensor
    exogenous: Tensor | None
    clipped: Tensor
    undetermined: Tensor
    intervened: Tensor


@dataclass(frozen=True)
class BacktrackedAnswer(Answer):
    """What images would have looked like, had other causes led to a value.

    Attributes:
        distance: of the noise from that of the factual, ``[B]``, in standard deviations: how
            far-fetched these causes are.
        reached: ``[B]`` bool, whether there are such causes; else the nearest that were found.
    """

    distance: Tensor
    reached: Tensor


@dataclass(frozen=True)
class AbductedImages:
    """What stays the same of images under any intervention; see :meth:`Model.abduct`."""

    model: Model
    world: World

    @property
    def factors(self) -> Tensor:
        """Of the factual, ``[B, K]`` in [0, 1] units."""
        return self.world.factors

    @overload
    def predict(self, do: Do, units: Units = "scaled") -> Answer: ...

    @overload
    def predict(
        self, do: Do, units: Units = "scaled", *, draws: int, seed: int = 0, fresh: float = FRESH
    ) -> Answer | Draws: ...

    def predict(
        self,
        do: Do,
        units: Units = "scaled",
        *,
        draws: int = 1,
        seed: int = 0,
        fresh: float = FRESH,
    ) -> Answer | Draws:
        """The counterfactual under ``do``, or several.

        Args:
            do, units: see :meth:`Model.counterfactual`.
            draws: how many counterfactuals, of what abduction leaves open
                (:mod:`diffcf.methods.draws`); 1 gives the :class:`Answer`, more give
                :class:`diffcf.Draws`.
            seed: of the draws.
            fresh: share of an image's noise that is drawn where its content changes, in [0, 1].

        Raises:
            SettingsError: for draws out of range, and of a method that offers none.
        """
        check_draws(draws, fresh)
        if draws == 1:
            return self.sequence([do], units)[0]
        return self.gathered([a[0] for a in self.drawn([do], units, draws, seed, fresh)])

    def drawn(
        self,
        dos: Sequence[Do],
        units: Units = "scaled",
        draws: int = 1,
        seed: int = 0,
        fresh: float = FRESH,
    ) -> Iterator[list[Answer]]:
        """The draws of a :meth:`sequence`, one by one; see :meth:`predict`."""
        for world in drawn_worlds(self.world, draws, seed, fresh):
            yield AbductedImages(self.model, world).sequence(dos, units)

    def gathered(self, answers: Sequence[Answer]) -> Draws:
        """The draws of one intervention as one."""

        def anywhere(flags: Iterable[Tensor]) -> Tensor:
            return torch.stack(list(flags)).any(dim=0)

        return Draws(
            self.model.graph,
            torch.stack([answer.image for answer in answers]),
            torch.stack([answer.factors for answer in answers]),
            torch.stack([answer.target for answer in answers]),
            anywhere(answer.clipped for answer in answers),
            anywhere(answer.undetermined for answer in answers),
            anywhere(answer.intervened for answer in answers),
        )

    def sequence(self, dos: Sequence[Do], units: Units = "scaled") -> list[Answer]:
        """Interventions one after another, each upon the image that the last one left."""
        return self._answers([scaled_do(do, self.model.graph, units) for do in dos], units)

    def _answers(self, steps: Sequence[Do | Intervention], units: Units) -> list[Answer]:
        """About interventions in [0, 1] units, one after another."""
        model, world = self.model, self.world
        factors = model.in_units(world.factors, units)
        return [
            Answer(
                answer.image,
                factors,
                model.in_units(answer.factors, units),
                world.exogenous,
                _any(world.clipped, answer.clipped, like=factors),
                _any(answer.undetermined, like=factors),
                answer.intervention.mask,
            )
            for answer in predict_sequence(world, steps)
        ]

    def backtrack(self, do: Do, units: Units = "scaled") -> BacktrackedAnswer:
        """Had other causes led to the values of ``do``, what would the images look like?

        No mechanism is cut: the exogenous noise moves as little as it can
        (:mod:`diffcf.causal.backtracking`). ``intervened`` says which factors moved.

        Args:
            do, units: see :meth:`Model.counterfactual`; of continuous or integer factors.

        Raises:
            InterventionError: for a discrete factor.
            SettingsError: of a method without a causal model whose noise is known.
        """
        model, world = self.model, self.world
        nscm = getattr(model.module, "nscm", None)
        if not isinstance(nscm, NSCM) or world.exogenous is None:
            raise SettingsError(
                f"{type(model.module).__name__} has no causal noise to backtrack to."
            )
        asked = world.intervention(scaled_do(do, model.graph, units))
        found = backtrack(nscm, world.factors, world.exogenous, asked)
        (answer,) = self._answers([found.do], units)
        told = {field.name: getattr(answer, field.name) for field in fields(answer)}
        told["exogenous"] = found.exogenous
        return BacktrackedAnswer(**told, distance=found.distance, reached=found.reached)

    def select(self, rows: Sequence[int]) -> AbductedImages:
        """Some of the images, each as often as it is named: many what-ifs of one at once.

        NotImplementedError for methods that cannot.
        """
        chosen = torch.as_tensor(list(rows), device=self.world.image.device)
        return AbductedImages(self.model, self.world.select(chosen))


def _any(*flags: Tensor | None, like: Tensor) -> Tensor:
    """Where any of the flags ``[B, K]`` is set; None stands for nowhere."""
    found = torch.zeros_like(like, dtype=torch.bool)
    for each in flags:
        found = found if each is None else found | each
    return found
