"""Interventions: ``do`` as a mapping from factor name to value, as text, and as tensors.

Inside diffcf an intervention is a pair of tensors ``[B, K]``: the values, and which of them are
set. Each sample may thus have its own values and even its own factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcf.causal.factor import ROUNDING, Factor
from diffcf.causal.graph import CausalGraph
from diffcf.io import DataError, InterventionError, parse_number

Do = Mapping[str, float | str | Tensor]
"""Factor name → value in [0, 1] units (one, or ``[B]`` numbers), or a category's name."""
LONGEST = 1000  # steps of a sweep


@dataclass(frozen=True)
class Intervention:
    """``values`` ``[B, K]`` in [0, 1] units, used where ``mask`` ``[B, K]`` (bool) is set."""

    values: Tensor
    mask: Tensor

    @classmethod
    def from_do(
        cls,
        do: Do | Intervention,
        graph: CausalGraph,
        batch: int,
        device: torch.device | None = None,
    ) -> Intervention:
        """Check ``do`` against the graph and spread it over the batch; an Intervention stays.

        Raises:
            GraphError: for an unknown factor or category.
            InterventionError: for a value outside [0, 1] by more than rounding, not finite, of the
                wrong length, or, for a discrete or integer factor, none of its levels.
        """
        if isinstance(do, Intervention):
            return do
        # Made on the host, where values can be checked without waiting for a device.
        values = torch.zeros(batch, len(graph))
        mask = torch.zeros(batch, len(graph), dtype=torch.bool)
        for name, given in do.items():
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
        return cls(values.to(device, non_blocking=True), mask.to(device, non_blocking=True))

    @classmethod
    def none(cls, like: Tensor) -> Intervention:
        """The null intervention on factors ``[B, K]``."""
        return cls(torch.zeros_like(like), torch.zeros_like(like, dtype=torch.bool))

    def then(self, other: Intervention) -> Intervention:
        """This one followed by ``other``: what was set stays set unless ``other`` sets it anew."""
        values = torch.where(other.mask, other.values, self.values)
        return Intervention(values, self.mask | other.mask)


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
    """``name=value`` for each factor that is set; categories by name.

    Raises:
        InterventionError: for what is not of this form, and a factor that is set twice.
        GraphError: for an unknown factor or category.
    """
    do: dict[str, float | str] = {}
    for text in texts:
        name, value = _split(text)
        factor = graph.factors[graph.column(name)]
        if name in do:
            raise InterventionError(f"'{text}' sets {name} a second time: set it once.")
        if factor.categories:
            factor.scaled(value)  # or an error that names the categories
        do[name] = value if factor.categories else _number(value, text)
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
    name, value = _split(text)
    graph.column(name)
    parts = value.split(":")
    if len(parts) != 3:
        raise InterventionError(f"'{text}' is no sweep: write name=first:last:count.")
    first, last, count = (_number(part, text) for part in parts)
    if count != int(count) or not 2 <= count <= LONGEST:
        raise InterventionError(f"'{text}' takes 2 to {LONGEST} steps, not {parts[2]}.")
    # Weighted ends, since the difference of two large numbers may not be a number.
    weights = (k / (count - 1) for k in range(int(count)))
    return name, [first * (1 - weight) + last * weight for weight in weights]


def _split(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value:
        raise InterventionError(f"'{text}' is no intervention: write name=value.")
    return name, value


def _number(value: str, text: str) -> float:
    try:
        return parse_number(value)
    except DataError as error:
        raise InterventionError(f"'{text}': {error}") from None
