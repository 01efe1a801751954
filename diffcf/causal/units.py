"""Values that people give, in native or in [0, 1] units: converted to the latter, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from diffcf.causal.change_text import understood
from diffcf.causal.changes import Change, Units, When
from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.causal.intervention import Do, Value
from diffcf.io import InterventionError


def scaled_do(do: Do, graph: CausalGraph, units: Units) -> Do:
    """``do``, whose values are in ``units``, in [0, 1] units.

    InterventionError for a value beyond its factor's range, and a change that does not fit it.
    """
    if units not in ("scaled", "native"):
        raise InterventionError(f"Units are 'scaled' or 'native', not {units!r}.")
    if not isinstance(do, Mapping):
        return do
    factors = {name: graph.factors[graph.column(name)] for name in do}
    return {name: _scaled(value, factors[name], graph, units) for name, value in do.items()}


def _scaled(value: Value, factor: Factor, graph: CausalGraph, units: Units) -> Value:
    value = understood(value, factor)
    if isinstance(value, When):
        value = value.within(units)
        value.threshold(graph)  # or an error
        value = replace(value, value=_scaled(value.value, factor, graph, units))
    if isinstance(value, Change):
        value = value.within(units)
        value.check(factor)
        return value
    if isinstance(value, str) or units == "scaled":
        return value
    return _inside(factor, torch.as_tensor(value, dtype=torch.float64), f"do({factor.name}")


def _inside(factor: Factor, native: Tensor, what: str) -> Tensor:
    """Native values in [0, 1] units, float32; InterventionError for one beyond the range."""
    scaled = factor.to_scaled(native)
    outside = (scaled < -factor.slack) | (scaled > 1 + factor.slack)
    if outside.any():
        worst = native[outside].reshape(-1)[0]
        raise InterventionError(
            f"{what}={worst:.4g}) is outside the factor's range, {factor.domain}."
        )
    return scaled.clamp(0, 1).float()  # NaN stays, for others to name


def scaled_factors(factors: Tensor, graph: CausalGraph, units: Units) -> Tensor:
    """Observed factors ``[B, K]`` in [0, 1] units, NaN for others; InterventionError for some
    beyond the range."""
    if factors.dim() != 2 or factors.shape[1] != len(graph):
        return factors  # for the method to name
    missing, zeros = factors.isnan(), torch.zeros_like(factors)
    native = graph.to_native(zeros) if units == "native" else zeros
    return torch.where(
        missing, torch.nan, _in_range(torch.where(missing, native, factors), graph, units)
    )


def _in_range(factors: Tensor, graph: CausalGraph, units: Units) -> Tensor:
    """Known factors ``[B, K]`` in [0, 1] units; InterventionError for one beyond its range."""
    if units == "scaled":
        clipped, beyond = graph.clip(factors)
        if not beyond.any():
            return clipped
        factors = graph.to_native(factors)  # to name one
    columns = zip(graph.factors, factors.double().unbind(1), strict=True)
    inside = [_inside(factor, column, f"factors({factor.name}") for factor, column in columns]
    return torch.stack(inside, dim=1)
