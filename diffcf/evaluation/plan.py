"""The interventions of an evaluation: drawn once for the whole set, from one seed.

An :class:`InterventionPlan` holds those that a protocol makes on one set, and a
:class:`FactualBatch` takes its rows of them.

Values closer to the factual than ``min_change`` are drawn anew, and so are those whose exact
counterfactual the scene cannot show (a shadow that leaves the image, which no reader could read).
Where no value is left (a constant, a category that alone occurs), the image is not asked: an
intervention that sets nothing anew would count as a success of whoever does nothing. Everything is
drawn before the first batch, so neither batch size, number of processes nor method
changes which intervention is made on which image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor

from diffcf.causal import (
    CausalGraph,
    Intervention,
    TrueModel,
    row_keys,
    scaled_do,
    uniform_factors,
)
from diffcf.evaluation.protocol import EvaluationProtocol

_ATTEMPTS = 100
_MOST = 101  # values of a continuous factor that are tried in turn

Answered = Mapping[str, Tensor]
"""``[N]`` bool, which images have an answer: by the factor set, and under "" with nothing set."""
Scm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(factors, values, mask) -> counterfactual factors``, the true model."""


@dataclass(frozen=True)
class FactualBatch:
    """Images ``[B, C, H, W]``, their factors ``[B, K]`` and their rows in the set, ``[B]``."""

    image: Tensor
    factors: Tensor
    index: Tensor

    def where(self, chosen: Tensor) -> FactualBatch:
        """The images that ``chosen`` ``[B]`` (bool) marks."""
        return FactualBatch(self.image[chosen], self.factors[chosen], self.index[chosen.cpu()])

    def first(self, count: int) -> Tensor:
        """``[B]`` bool: which images are among the first ``count`` of the set."""
        # By row of the set, not by count, so that every process knows its share.
        return (self.index < count).to(self.image.device)

    def rows(self, intervention: Intervention) -> Intervention:
        """These images' part of an intervention on the whole set."""
        values, mask = intervention.values[self.index], intervention.mask[self.index]
        return Intervention(values.to(self.factors), mask.to(self.factors.device))


class InterventionPlan:
    """The interventions of a protocol on ``N`` images.

    Args:
        graph: the factors.
        factors: ``[N, K]``, the factual factors of the whole set.
        protocol: which factors, values, length of sequences and seed.
        scm: the true counterfactual, if known.
        visible: the true model's test of whether factors can be shown; None where all can.

    Raises:
        GraphError: when the protocol names a factor that the graph has not.

    Attributes:
        single: per factor name, an intervention on that factor ``[N, K]``, whose mask is empty for
            images that are not asked; without the factors that no measured image is asked.
        sequence: interventions ``[N, K]``, each on one factor per image, another at each step;
            the mask of an image that is not asked is empty.
        null: ``[N]`` bool, which images undergo the null intervention: all, but for :meth:`keep`.
        left_out: how many of the measured images are not asked, by factor name and, of the images
            that undergo a sequence, by ``step_<n>``; without those that every image is asked.
    """

    def __init__(
        self,
        graph: CausalGraph,
        factors: Tensor,
        protocol: EvaluationProtocol,
        scm: Scm | None = None,
        visible: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.graph, self.factors, self.protocol = graph, factors, protocol
        self._scm, self._visible = scm, visible
        self.null = torch.ones(len(factors), dtype=torch.bool)
        self._generator = Generator().manual_seed(protocol.seed)
        self._least = torch.where(graph.discrete, 1e-6, self._least_changes())
        nothing = Intervention.none(factors)
        own = protocol.do or {}
        names = protocol.factors or list(own) or graph.names
        columns = torch.tensor(sorted({graph.column(name) for name in names}))
        self.single = {
            (name := graph.names[column]): self._told(name, own[name])
            if name in own
            else self._draw(nothing, torch.full((len(factors),), column))
            for column in columns.tolist()
        }
        # Every image goes through the factors in its own random order, again and again.
        random = torch.rand(len(factors), len(columns), generator=self._generator)
        order = columns[random.argsort(dim=1)]
        self.sequence: list[Intervention] = []
        held = nothing
        for step in range(protocol.steps):
            self.sequence.append(self._draw(held, order[:, step % len(columns)]))
            held = held.then(self.sequence[-1])
        self._leave_out()

    @classmethod
    def of(
        cls,
        graph: CausalGraph,
        factors: Tensor,
        protocol: EvaluationProtocol,
        scene: TrueModel | None = None,
    ) -> Self:
        """The plan on images whose true model counts where factors determine what follows."""
        if scene is None or not scene.identified:
            return cls(graph, factors, protocol)
        return cls(graph, factors, protocol, scene.counterfactual, scene.visible)

    def keep(self, answered: Answered) -> None:
        """Drop the questions without an answer, so that no number is of them.

        ``left_out`` stays: it counts what the protocol cannot ask.
        """
        self.single = {
            name: Intervention(do.values, do.mask & answered[name][:, None])
            for name, do in self.single.items()
            if answered[name].any()
        }
        self.null = self.null & answered[""]

    def pictured(self) -> dict[str, Tensor]:
        """By factor name, ``[N]`` bool: the images whose counterfactuals enter FID.

        ``fid_images`` pairs of image and factor in all, spread over as many images as there are:
        counterfactuals of one image are alike, and a set of few subjects is far from any other,
        whatever was done to them.
        """
        if not self.single or not self.protocol.fid_images:
            return {}
        asked = torch.stack([do.mask.any(dim=1) for do in self.single.values()])
        kinds, count = asked.shape
        asked[:, min(self.protocol.images or count, count) :] = False
        # Every image with one of its factors, another from image to image; then with the next one.
        image = torch.arange(count)
        turn = (torch.arange(kinds)[:, None] + image) % kinds
        in_turn = asked[turn, image]
        place = torch.where(in_turn, (in_turn.cumsum(0) - 1) * count + image, kinds * count)
        last = place.flatten().sort().values[: self.protocol.fid_images].max()
        chosen = torch.zeros_like(asked)
        chosen[turn, image] = in_turn & (place <= last)
        return dict(zip(self.single, chosen, strict=True))

    def asked(self, count: int) -> bool:
        """Whether any factor is set in any of the first ``count`` measured images."""
        count = min(count, self.protocol.images or count)
        return any(bool(do.mask[:count].any()) for do in self.single.values())

    def _leave_out(self) -> None:
        images = min(self.protocol.images or len(self.factors), len(self.factors))
        few = min(images, self.protocol.sequence_images)
        drawn = {name: do.mask[:images] for name, do in self.single.items()}
        drawn |= {f"step_{k + 1}": do.mask[:few] for k, do in enumerate(self.sequence)}
        missing = {name: int((~mask.any(dim=1)).sum()) for name, mask in drawn.items()}
        self.left_out = {name: count for name, count in missing.items() if count}
        self.single = {name: do for name, do in self.single.items() if missing[name] < images}

    def _told(self, name: str, value: str | float) -> Intervention:
        """Set a factor as the protocol says, in images in which that is a change to be seen."""
        count = len(self.factors)
        keys = row_keys(torch.arange(count), self.protocol.seed)
        asked = scaled_do({name: value}, self.graph, "native")
        do = Intervention.from_do(asked, self.graph, count, None, self.factors, keys)
        column = torch.full((count,), self.graph.column(name))
        shown = self._shown(Intervention.none(self.factors), do, self.factors, column)
        return Intervention(do.values, do.mask & shown[:, None])

    def _shown(self, held: Intervention, do: Intervention, now: Tensor, column: Tensor) -> Tensor:
        """``[N]`` bool: whether it changes factor ``column`` ``[N]`` of ``now`` enough, and can be
        shown, given what is ``held``."""
        moved = torch.where(do.mask, (do.values - now).abs(), 0.0).amax(dim=1)
        shown = moved >= self._least[column]
        if self._visible is None:
            return shown
        return shown & self._visible(self._predicted(held.then(do)))

    def _draw(self, held: Intervention, column: Tensor) -> Intervention:
        """Set factor ``column`` ``[N]`` of each image, given what is already held."""
        count = len(self.factors)
        mask = torch.zeros_like(self.factors, dtype=torch.bool)
        mask[torch.arange(count), column] = True
        values = torch.zeros_like(self.factors)
        missing = torch.ones(count, dtype=torch.bool)
        now = self._predicted(held)
        for proposed in self._proposals():
            drawn = torch.where(mask, proposed, 0.0)
            shown = self._shown(held, Intervention(drawn, mask), now, column)
            values = torch.where((missing & shown)[:, None], drawn, values)
            missing &= ~shown
            if not missing.any():
                break
        return Intervention(values, mask & ~missing[:, None])

    def _proposals(self) -> Iterator[Tensor]:
        """Values ``[N, K]`` of all factors, before any is rejected: at random, then all in turn."""
        count = len(self.factors)
        for _ in range(_ATTEMPTS):
            yield self._values(count)
        # Chance misses what is rare: the only image that smiles, an outlier far from the others.
        # Of random numbers of its own, so that what is rare here moves no other question.
        rare = Generator().manual_seed(self.protocol.seed)
        found = [self._candidates(column) for column in range(len(self.graph))]
        most = max(map(len, found))
        table = torch.stack([c[torch.arange(most).clamp(max=len(c) - 1)] for c in found], dim=1)
        for places in torch.rand(count, most, generator=rare).argsort(dim=1).unbind(dim=1):
            yield table[places]

    def _candidates(self, column: int) -> Tensor:
        """Values of one factor: levels, or values spread over the data or the range, ends too."""
        factor = self.graph.factors[column]
        every = torch.linspace(0, 1, max(factor.width, 2) if self.graph.discrete[column] else _MOST)
        if factor.kind == "binary" or self.protocol.values == "uniform":
            return factor.snap(every).unique().to(self.factors)
        known = self.factors[:, column].unique()
        return known[torch.linspace(0, len(known) - 1, min(len(known), _MOST)).round().long()]

    def _values(self, count: int) -> Tensor:
        """Values ``[N, K]`` of all factors, drawn at random."""
        if self.protocol.values == "marginal":
            return self.factors[torch.randint(count, (count,), generator=self._generator)]
        return uniform_factors(self.graph, count, self._generator).to(self.factors)

    def _least_changes(self) -> Tensor:
        """Of each factor, ``[K]``, as if it were continuous: ``min_change`` in its own unit."""
        ordered, last = self.factors.sort(dim=0).values, len(self.factors) - 1
        spans = ordered[[round(0.95 * last), last]] - ordered[[round(0.05 * last), 0]]
        middle, whole = (2 * spans).clamp(max=1)
        unit = torch.where(middle > 0, middle, whole)
        # Of a constant there is no other value among the data.
        alone = 1.0 if self.protocol.values == "uniform" else torch.inf
        return max(self.protocol.min_change, 1e-6) * torch.where(unit > 0, unit, alone)

    def _predicted(self, held: Intervention) -> Tensor:
        """Factors ``[N, K]`` under what is held: by the true model, or nothing else moved."""
        if self._scm is None:
            return torch.where(held.mask, held.values, self.factors)
        return self._scm(self.factors, held.values, held.mask)
