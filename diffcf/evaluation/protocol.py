"""What an evaluation asks, of which images: drawn once for the whole set, from one seed.

:class:`EvaluationProtocol` is data (``experiments/protocols/*.yaml``); :class:`InterventionPlan`
holds the interventions it makes on one set, and a :class:`FactualBatch` takes its rows of them.
Values closer to the factual than ``min_change`` are drawn anew, and so are those whose exact
counterfactual the scene cannot show (a shadow that leaves the image, which no reader could read).
Where no value is left (a constant, a category that alone occurs), the image is not asked: an
intervention that sets nothing anew would count as a success of whoever does nothing. Everything is
drawn before the first batch, so neither batch size, number of processes nor method
changes which intervention is made on which image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from torch import Generator, Tensor

from diffcf.causal import CausalGraph, Intervention, TrueModel, uniform_factors
from diffcf.io import SettingsError, is_whole

_ATTEMPTS = 100
_MOST = 101  # values of a continuous factor that are tried in turn

Answered = Mapping[str, Tensor]
"""``[N]`` bool, which images have an answer: by the factor set, and under "" with nothing set."""
Scm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(factors, values, mask) -> counterfactual factors``, the true model."""


class EvaluationData(Protocol):
    """What an evaluation uses of a data module; ``split`` is "train", "val" or "test"."""

    scene: TrueModel | None

    def val_dataloader(self) -> Iterable[Mapping[str, Tensor]]: ...
    def test_dataloader(self) -> Iterable[Mapping[str, Tensor]]: ...
    def size_of(self, split: str, /) -> int: ...
    def factors_of(self, split: str, /) -> Tensor: ...  # [N, K] in [0, 1]
    def noise_of(self, split: str, /) -> Tensor | None: ...  # [N, M]
    def images_of(self, split: str, rows: Tensor, /) -> Tensor: ...  # [B, C, H, W] in [-1, 1]


@dataclass(frozen=True)
class EvaluationProtocol:
    """How counterfactuals are measured.

    Attributes:
        factors: names of the factors that are intervened upon; None for all.
        values: ``"marginal"``: the value another image of the set has; ``"uniform"``: any value.
        min_change: least distance between the value set and the factual one, for continuous
            factors, as part of the factor's range; where the range is far wider than the data, of
            twice the span of the middle 90% of the set's values. Discrete ones always differ.
        images: how many images are measured; None for all of the set.
        steps: length of the sequences of interventions; 0 for none.
        sequence_images: how many images undergo a sequence.
        cycles: null interventions one upon another, beside the single one; 0 for none.
        cycle_images: how many images undergo the cycles.
        reverse_images: how many images have every intervention undone.
        references: measure the reference methods beside (:mod:`diffcf.evaluation.references`).
        readers: who may read counterfactual images; the tables show the first at hand. ``"ruler"``
            is the true model's analytic read-out, ``"evaluator"`` the independent network.
        fid_images: counterfactual and real images for FID, sFID and KID; 0 for none.
        fid_real: which images are the real ones: ``"train"``, drawn from the training split, or
            ``"held_out"``: those of the test split that are not measured, so that ``images`` has to
            leave some. Then the distances of as many training images from them stand beside, as
            ``fid_floor`` and so on. These are all of different subjects, where the counterfactuals
            are several of each, which adds to their distance.
        lpips: measure LPIPS to the exact counterfactual, where its network is on the machine.
        resamples: of the bootstrap.
        seed: of all interventions.

    Raises:
        SettingsError: in one sentence, for a value outside its range.
    """

    factors: list[str] | None = None
    values: Literal["marginal", "uniform"] = "marginal"
    min_change: float = 0.05
    images: int | None = None
    steps: int = 5
    sequence_images: int = 32
    cycles: int = 10
    cycle_images: int = 16
    reverse_images: int = 32
    references: bool = True
    readers: tuple[Literal["ruler", "evaluator"], ...] = ("ruler", "evaluator")
    fid_images: int = 0
    fid_real: Literal["train", "held_out"] = "train"
    lpips: bool = False
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        # A YAML file may leave any value null, whatever its type is said to be.
        counts = ("steps", "sequence_images", "cycles", "cycle_images", "reverse_images")
        for name in (*counts, "fid_images", "resamples"):
            if not is_whole(getattr(self, name)) or getattr(self, name) < 0:
                raise SettingsError(
                    f"{name} of a protocol must be a whole number and must not be negative, not "
                    f"{getattr(self, name)!r:.100}."
                )
        if self.fid_images == 1:
            raise SettingsError("fid_images of a protocol is 0 for none, or two and more, not 1.")
        if self.fid_real not in ("train", "held_out"):
            raise SettingsError(
                f"fid_real of a protocol is 'train' or 'held_out', not {self.fid_real!r:.100}."
            )
        if not is_whole(self.seed):
            raise SettingsError(f"seed of a protocol is a whole number, not {self.seed!r:.100}.")
        if self.images is not None and (not is_whole(self.images) or self.images < 1):
            raise SettingsError("images of a protocol must be at least 1; leave it out for all.")
        if not isinstance(self.min_change, int | float) or not 0 <= self.min_change < 0.5:
            raise SettingsError(
                f"min_change must lie in [0, 0.5), not {self.min_change}: a value farther than "
                "half the range from the factual one need not exist."
            )
        if self.factors is not None and not self.factors:
            raise SettingsError("factors of a protocol is empty: name some, or leave it out.")


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
        names = graph.names if protocol.factors is None else protocol.factors
        columns = torch.tensor(sorted({graph.column(name) for name in names}))
        self.single = {
            graph.names[column]: self._draw(nothing, torch.full((len(factors),), column))
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

    def _draw(self, held: Intervention, column: Tensor) -> Intervention:
        """Set factor ``column`` ``[N]`` of each image, given what is already held."""
        count = len(self.factors)
        mask = torch.zeros_like(self.factors, dtype=torch.bool)
        mask[torch.arange(count), column] = True
        values = torch.zeros_like(self.factors)
        missing = torch.ones(count, dtype=torch.bool)
        now = torch.where(mask, self._predicted(held), 0.0)
        for proposed in self._proposals():
            drawn = torch.where(mask, proposed, 0.0)
            shown = (drawn - now).abs().amax(dim=1) >= self._least[column]
            if self._visible is not None:
                shown &= self._visible(self._predicted(held.then(Intervention(drawn, mask))))
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
