"""What is compared in an audit: two interventions, with what follows from them and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diffcf.causal import CausalGraph, Do, Factor, Intervention, written
from diffcf.io import SettingsError
from diffcf.methods import World

QUANTILES = (0.1, 0.9)
"""Of a number among the images: between these its effect is measured, unless values are named."""


@dataclass(frozen=True)
class Contrast:
    """The effect of ``do`` upon images, compared with that of ``versus``.

    Attributes:
        title: for people.
        do: what is set, in [0, 1] units.
        versus: what is set instead, likewise; nothing compares with the factual, drawn again.
    """

    title: str
    do: Do
    versus: Do = field(default_factory=dict)

    @property
    def factors(self) -> tuple[str, ...]:
        """All that either sets, by name."""
        return tuple(dict.fromkeys([*self.versus, *self.do]))


def asked_contrast(graph: CausalGraph, do: Do, versus: Do) -> Contrast:
    """The contrast of two interventions in [0, 1] units; GraphError for an unknown factor."""
    title = f"{_text(versus, graph) or 'as it is'} → {_text(do, graph)}"
    return Contrast(title, do, versus)


def _text(do: Do, graph: CausalGraph) -> str:
    """As people write it, in native units."""
    shown = []
    for name, value in do.items():
        factor = graph.factors[graph.column(name)]
        if isinstance(value, Tensor) and value.numel() == 1:
            value = float(value)
        if isinstance(value, int | float):
            shown.append(f"{name} = {factor.text(value)}")
        else:
            shown.append(written(name, value))
    return ", ".join(shown)


def default_contrasts(
    graph: CausalGraph, factors: Tensor, names: Sequence[str] | None = None
) -> tuple[list[Contrast], list[str]]:
    """Contrasts of each factor by itself, and sentences about those that there are none of.

    A number goes from the 10% to the 90% quantile of ``factors`` ``[N, K]``, those of the images in
    [0, 1] units (NaN is left out); a binary factor from 0 to 1, a categorical one from its first
    category to each other.

    Args:
        graph: the factors.
        factors: those of the images.
        names: which to take; None for all.

    Raises:
        GraphError: for a name that is no factor's.
        SettingsError: where all images have one value of a factor that was named.
    """
    found: list[Contrast] = []
    notes: list[str] = []
    for name in graph.names if names is None else dict.fromkeys(names):
        column = graph.column(name)
        factor = graph.factors[column]
        first, *others = _levels(factor, factors[:, column])
        if not others:
            reason = f"All images have nearly one value of {name}, {factor.text(first)}"
            if names is not None:
                raise SettingsError(f"{reason}: say what to compare by --do and --versus.")
            notes.append(f"{reason}: its effect is not measured.")
        found += [
            Contrast(f"{name} {factor.text(first)} → {factor.text(to)}", {name: to}, {name: first})
            for to in others
        ]
    return found, notes


def _levels(factor: Factor, values: Tensor) -> list[float]:
    """The values that are compared, in [0, 1] units; the first with each other one."""
    if not factor.continuous:
        return torch.linspace(0, 1, max(factor.width, 2)).tolist()
    ends = torch.tensor(QUANTILES, dtype=values.dtype)
    low, high = factor.snap(values.nanquantile(ends)).tolist()
    return [low, high] if high > low else [low]


@dataclass(frozen=True)
class Arms:
    """The interventions of a contrast on one batch, each a pair: of ``versus``, of ``do``.

    Attributes:
        total: what is set moves its effects.
        direct: all effects that neither sets are held at their factual values; None where there
            are none to hold, so that ``total`` is the same.
    """

    total: tuple[Intervention, Intervention]
    direct: tuple[Intervention, Intervention] | None

    @classmethod
    def of(cls, contrast: Contrast, world: World) -> Arms:
        """GraphError, InterventionError for a contrast that the graph or the batch cannot have."""
        before, after = (world.intervention(do) for do in (contrast.versus, contrast.do))
        are_set = before.mask | after.mask
        reached = world.graph.reached(are_set)
        held = reached & ~are_set
        if not held.any():
            return cls((before, after), None)
        return cls((before, after), (_hold(before, held, world), _hold(after, held, world)))


def _hold(do: Intervention, held: Tensor, world: World) -> Intervention:
    """``do`` with the factors ``held`` ``[B, K]`` (bool) at their factual values, too."""
    values = torch.where(held, world.factors, do.values)
    return replace(do, values=values, mask=do.mask | held)
