"""Interventions: ``do`` as a mapping from factor name to value, as text, and as tensors.

Inside diffcf an intervention is a pair of tensors ``[B, K]``: the values, and which of them are
set. Each sample may thus have its own values and even its own factors. What differs from image to
image by itself, such as a shift (:mod:`diffcf.causal.changes`), becomes one here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal.change_text import number, split, understood, value_of
from diffcf.causal.changes import Change, Relative, When
from diffcf.causal.distributions import Distribution
from diffcf.causal.factor import ROUNDING, Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.keys import row_keys, uniform_noise
from diffcf.causal.mechanisms import wide_dtype
from diffcf.io import InterventionError

Value = float | str | Tensor | Change
"""In [0, 1] units, one or ``[B]``; a category's name; or what differs from image to image, as
:mod:`diffcf.causal.changes` has it or writes it (``"+=0.2"``)."""
Do = Mapping[str, Value]
"""Factor name → value."""
LONGEST = 1000  # steps of a sweep
STREAM = 0x50F7  # seed of the keys of soft interventions, whose noise is thus that of nothing else


@dataclass(frozen=True)
class Intervention:
    """``values`` ``[B, K]`` in [0, 1] units, used where ``mask`` ``[B, K]`` (bool) is set.

    ``clipped`` ``[B, K]`` (bool) says which were meant to lie beyond the range; None for nowhere.
    """

    values: Tensor
    mask: Tensor
    clipped: Tensor | None = None

    @classmethod
    def from_do(
        cls,
        do: Do | Intervention,
        graph: CausalGraph,
        batch: int,
        device: torch.device | None = None,
        factors: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Intervention:
        """Check ``do`` against the graph and spread it over the batch; an Intervention stays.

        Args:
            do: what is set.
            graph: the factors.
            batch: B.
            device: of the result.
            factors: the factual ones ``[B, K]``, which shifts, scales and conditions go by.
            keys: of the images ``[B]``, of which what a distribution draws is a function.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value outside [0, 1] by more than rounding, not finite, of the
                wrong length, or, for a discrete or integer factor, none of its levels; and for a
                change that does not fit its factor, or has no factual value to change.
        """
        if isinstance(do, Intervention):
            return do
        known = {name: graph.factors[graph.column(name)] for name in do}
        do = {name: understood(value, known[name]) for name, value in do.items()}
        changes = {name: value for name, value in do.items() if isinstance(value, Change)}
        # Made on the host, where values can be checked without waiting for a device.
        values = torch.zeros(batch, len(graph))
        mask = torch.zeros(batch, len(graph), dtype=torch.bool)
        for name, given in do.items():
            if isinstance(given, Change):
                continue
            column = graph.column(name)
            factor = graph.factors[column]
            given = factor.scaled(given) if isinstance(given, str) else given
            value = torch.as_tensor(given, dtype=torch.float32, device="cpu")
            if value.shape not in ((), (batch,)):
                wanted = f"give one number, or one for each of the {batch} images"
                raise InterventionError(f"do({name}) has shape {tuple(value.shape)}: {wanted}.")
            _check_values(factor, value)
            values[:, column] = factor.snap(value)
            mask[:, column] = True
        made = cls(values.to(device, non_blocking=True), mask.to(device, non_blocking=True))
        for name, change in changes.items():
            made = made.then(_resolved(name, change, graph, batch, device, factors, keys))
        return made

    @classmethod
    def none(cls, like: Tensor) -> Intervention:
        """The null intervention on factors ``[B, K]``."""
        return cls(torch.zeros_like(like), torch.zeros_like(like, dtype=torch.bool))

    def rows(self, rows: Tensor | slice) -> Intervention:
        """That on some of the samples."""
        clipped = None if self.clipped is None else self.clipped[rows]
        return Intervention(self.values[rows], self.mask[rows], clipped)

    def to(self, device: torch.device | str) -> Intervention:
        """This one on a device."""
        clipped = None if self.clipped is None else self.clipped.to(device)
        return Intervention(self.values.to(device), self.mask.to(device), clipped)

    def then(self, other: Intervention) -> Intervention:
        """This one followed by ``other``: what was set stays set unless ``other`` sets it anew."""
        values = torch.where(other.mask, other.values, self.values)
        clipped = self.clipped
        if clipped is not None or other.clipped is not None:
            clipped = torch.where(other.mask, _flags(other), _flags(self))
        return Intervention(values, self.mask | other.mask, clipped)


def _flags(do: Intervention) -> Tensor:
    return torch.zeros_like(do.mask) if do.clipped is None else do.clipped


def _resolved(
    name: str,
    change: Change,
    graph: CausalGraph,
    batch: int,
    device: torch.device | None,
    factors: Tensor | None,
    keys: Tensor | None,
) -> Intervention:
    """The hard intervention ``[B, K]`` on one factor that ``change`` is for these images."""
    column = graph.column(name)
    factor = graph.factors[column]
    change.check(factor)
    if isinstance(change, Relative | When) and factors is None:
        raise InterventionError(
            f"do({change.text(name)}) goes by a factual value, and new images have none: set a "
            "value, or draw one, as ~uniform:low:high does."
        )
    if isinstance(change, When):
        assert factors is not None
        held = change.holds(graph, factors)[:, None]
        inner = {name: change.value}
        made = Intervention.from_do(inner, graph, batch, device, factors, keys)
        return Intervention(made.values, made.mask & held, _flags(made) & held)
    value = _value(name, change, graph, factors, keys)
    beyond = (value < -factor.slack) | (value > 1 + factor.slack)
    chosen = torch.arange(len(graph), device=value.device) == column
    values = torch.where(chosen, factor.snap(value).float()[:, None], 0.0)
    mask = chosen.expand_as(values)
    return Intervention(values, mask, mask & beyond[:, None])


def _value(
    name: str, change: Change, graph: CausalGraph, factors: Tensor | None, keys: Tensor | None
) -> Tensor:
    """What a factor is set to ``[B]``, wherever it lies, in [0, 1] units."""
    column = graph.column(name)
    factor = graph.factors[column]
    if isinstance(change, Relative) and factors is not None:
        return change.moved(factor, factors[:, column])
    if not isinstance(change, Distribution) or keys is None:
        raise ValueError(f"do({change.text(name)}) is drawn: it needs the keys of the images.")
    noise = uniform_noise(row_keys(keys, STREAM), len(graph), wide_dtype(keys))
    return change.draw(factor, noise[:, column])


def uniform_factors(graph: CausalGraph, count: int, generator: torch.Generator) -> Tensor:
    """Factors ``[count, K]`` in [0, 1], each independent and uniform over its range or its levels.

    >>> uniform_factors(CausalGraph([Factor("lit", "binary")]), 3, torch.Generator()).shape
    torch.Size([3, 1])
    """
    drawn = torch.rand(count, len(graph), generator=generator)
    levels = torch.tensor([max(factor.width, 2) for factor in graph.factors])
    place = (drawn * levels).floor() / (levels - 1)
    return graph.whole(torch.where(graph.discrete, place, drawn))


_LEVELS = {
    "binary": "sets a binary factor: its values are {}",
    "categorical": "falls between categories: name one of {}",
    "integer": "sets an integer factor: its values are the whole numbers of {}",
}


def _check_values(factor: Factor, value: Tensor) -> None:
    name = factor.name
    if not torch.isfinite(value).all():
        raise InterventionError(f"do({name}) is not a finite number: give a value in [0, 1].")
    if (value < -ROUNDING).any() or (value > 1 + ROUNDING).any():
        worst = value.flatten()[(value - 0.5).abs().argmax()]
        raise InterventionError(
            f"do({name}={worst:.4g}) is outside the factor's range: values are scaled to [0, 1] "
            "(CausalGraph.to_scaled converts native units)."
        )
    if factor.levels is not None and not factor.is_level(value).all():
        raise InterventionError(f"do({name}) {_LEVELS[factor.kind].format(factor.domain)}.")


# --- text ---


def parse_do(texts: Sequence[str], graph: CausalGraph) -> Do:
    """``name=value`` for each factor that is set, categories by name, or a change.

    Changes are ``name+=value``, ``name-=value``, ``name*=value`` and ``name~distribution``, and
    ``… if name<value`` may follow any (:mod:`diffcf.causal.changes`).

    Raises:
        InterventionError: for what is not of this form, and a factor that is set twice.
        GraphError: for an unknown factor or category.
    """
    do: dict[str, Value] = {}
    for text in texts:
        name, operator, value = split(text)
        factor = graph.factors[graph.column(name)]
        if name in do:
            raise InterventionError(f"'{text}' sets {name} a second time: set it once.")
        do[name] = value_of(factor, operator, value, text)
    return do


def parse_sweep(text: str, graph: CausalGraph) -> tuple[str, list[float] | list[str]]:
    """``name=first:last:count``, or ``name`` alone for all categories of a categorical factor.

    Raises:
        InterventionError: for what is not of this form.
        GraphError: for an unknown factor.
    """
    if "=" not in text:
        factor = graph.factors[graph.column(text.strip())]
        if factor.categories:
            return factor.name, list(factor.categories)
    name, operator, value = split(text)
    graph.column(name)
    parts = value.split(":")
    if operator != "=" or len(parts) != 3:
        raise InterventionError(f"'{text}' is no sweep: write name=first:last:count.")
    first, last, count = (number(part, text) for part in parts)
    if count != int(count) or not 2 <= count <= LONGEST:
        raise InterventionError(f"'{text}' takes 2 to {LONGEST} steps, not {parts[2]}.")
    # Weighted ends, since the difference of two large numbers may not be a number.
    weights = (k / (count - 1) for k in range(int(count)))
    return name, [first * (1 - weight) + last * weight for weight in weights]
