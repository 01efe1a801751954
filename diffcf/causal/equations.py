r"""The structural equations of all factors, evaluated together by grouped networks.

Each factor is :math:`z_k = f_k(pa_k, u_k)`, invertible in u where the factor is continuous:

- continuous: a location-scale map composed with a monotone spline, both conditioned on the parents,
  with u ~ N(0, 1);
- binary: ``[logit(pa) + u > 0]`` with a logistic u;
- categorical: ``argmax(logits(pa) + u)`` with Gumbel u, one for each category.

A root has no inputs, hence an unconditional spline or fixed logits.
:class:`diffcf.causal.nscm.NSCM` adds order, abduction and intervention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcf.causal.graph import CausalGraph
from diffcf.causal.mechanisms import (
    GroupedMLP,
    NoiseMap,
    prior,
    truncated_gumbels,
    truncated_logistic,
)


class StructuralEquations(nn.Module):
    """Mechanisms of K factors, whose code and exogenous values have E columns.

    The edges of ``graph`` are not used; ``sees_gates`` says whether the mechanisms also get as
    input which parents they have. For the rest see :class:`diffcf.causal.nscm.NSCM`.
    """

    _is_discrete: Tensor
    _is_binary: Tensor
    _owner: Tensor

    def __init__(
        self,
        graph: CausalGraph,
        hidden: Sequence[int],
        bins: int,
        scale_floor: float,
        sees_gates: bool,
    ) -> None:
        super().__init__()
        self.graph, self.scale_floor, self.sees_gates = graph, scale_floor, sees_gates
        self.widths = graph.widths
        # To a mechanism, an integer factor is a continuous one.
        self.kinds = ["continuous" if f.continuous else f.kind for f in graph.factors]
        self._continuous = [k for k, kind in enumerate(self.kinds) if kind == "continuous"]
        self._categorical = [k for k, kind in enumerate(self.kinds) if kind == "categorical"]
        fan_in = (2 if sees_gates else 1) * sum(self.widths)
        self.location = GroupedMLP(len(graph), [fan_in, *hidden, max(self.widths)])
        if self._continuous:
            self.shape = GroupedMLP(len(self._continuous), [fan_in, hidden[-1], 3 * bins])
        self.register_buffer("_is_discrete", graph.discrete, persistent=False)
        self.register_buffer("_is_binary", graph.binary, persistent=False)
        self.register_buffer("_owner", graph.code_owner, persistent=False)

    def inputs(self, factors: Tensor, gates: Tensor) -> Tensor:
        """``[B, K]`` to ``[K, B, E or 2E]``: what each row of gates lets through, centred.

        Gates are ``[K, K]`` or ``[B, K, K]``, ``[.., i, j]``: factor i sees factor j.
        """
        seen = torch.where(self._is_binary, (factors >= 0.5).to(factors.dtype), factors)
        code = self.graph.encode(seen)
        gates = gates.to(factors.dtype)
        gates = gates[:, None, :] if gates.ndim == 2 else gates.transpose(0, 1)
        gates = gates[..., self._owner] if self._categorical else gates
        inputs = gates * (2 * code - 1)
        # an absent parent must not look like one in mid-range
        return torch.cat([inputs, gates.expand_as(inputs)], -1) if self.sees_gates else inputs

    def log_prob(self, factors: Tensor, inputs: Tensor, damp: bool = False) -> Tensor:
        """Per factor ``log p(z_k | pa_k)``, ``[B, K]``; ``damp`` scales the gradient that the
        locations of continuous factors receive by ``scale_floor``."""
        location = self.location(inputs)
        if damp and location.requires_grad:
            rate = torch.where(self._is_discrete, 1.0, self.scale_floor)[:, None, None]
            location.register_hook(lambda gradient: rate * gradient)
        sign = torch.where(factors.T >= 0.5, 1.0, -1.0)
        rows = list(F.logsigmoid(sign * location[..., 0]))
        if self._continuous:
            shape = self.shape(self._of_continuous(inputs))
            noise_map = NoiseMap(self._of_continuous(location[..., 0]), shape, self.scale_floor)
            density = noise_map.log_prob(self._of_continuous(factors.T))
            for k, row in zip(self._continuous, density, strict=True):
                rows[k] = row
        for k in self._categorical:
            logits = location[k, :, : self.widths[k]].log_softmax(-1)
            category = self.graph.factors[k].category(factors[:, k])
            rows[k] = logits.gather(1, category[:, None])[:, 0]
        return torch.stack(rows, dim=1)

    def _of_continuous(self, rows: Tensor) -> Tensor:
        """The rows of the continuous factors out of K."""
        return rows if len(self._continuous) == len(self.kinds) else rows[self._continuous]

    @property
    def drawn(self) -> list[str]:
        """Names of the factors whose exogenous values are drawn when they are abducted."""
        kinds = zip(self.graph.names, self.kinds, strict=True)
        return [name for name, kind in kinds if kind != "continuous"]

    def abduct(self, factors: Tensor, inputs: Tensor, k: int, uniform: Tensor) -> Tensor:
        """``u_k`` ``[B, width]`` that explains column k: exact for a continuous factor, a draw from
        the posterior for a discrete one, by ``uniform`` noise ``[B, width]``."""
        location, z = self.location(inputs[k : k + 1], group=k)[0], factors[:, k]
        if self.kinds[k] == "categorical":
            logits = location[:, : self.widths[k]]
            return truncated_gumbels(logits, self.graph.factors[k].category(z), uniform)
        if self.kinds[k] == "binary":
            return truncated_logistic(location[:, 0], z >= 0.5, uniform[:, 0])[:, None]
        return self._noise_map(inputs, location[:, 0], k).to_noise(z)[:, None]

    def draw(self, uniform: Tensor) -> Tensor:
        """Exogenous values ``[B, E]`` of their prior, by ``uniform`` noise ``[B, E]``."""
        columns = zip(self.kinds, torch.split(uniform, self.widths, dim=1), strict=True)
        return torch.cat([prior(kind, noise) for kind, noise in columns], dim=1)

    def evaluate(self, factors: Tensor, exogenous: Tensor, gates: Tensor, k: int) -> Tensor:
        """``f_k``: column k ``[B]`` from its parents' columns and the exogenous ``[B, E]``."""
        inputs = self.inputs(factors, gates)
        location: Tensor = self.location(inputs[k : k + 1], group=k)[0]
        u = torch.split(exogenous, self.widths, dim=1)[k]
        if self.kinds[k] == "categorical":
            chosen = (location[:, : self.widths[k]] + u).argmax(-1)
            return chosen.to(factors.dtype) / (self.widths[k] - 1)
        if self.kinds[k] == "binary":
            return (location[:, 0] + u[:, 0] > 0).to(factors.dtype)
        return self._noise_map(inputs, location[:, 0], k).to_factor(u[:, 0])

    def log_density(self, values: Tensor, factors: Tensor, gates: Tensor, k: int) -> Tensor:
        """Log density ``[B, N]`` of ``values`` ``[B, N]`` of a continuous column k, given its
        parents' columns of ``factors``."""
        inputs = self.inputs(factors, gates)
        location = self.location(inputs[k : k + 1], group=k)[0, :, 0]
        return self._noise_map(inputs, location, k).log_prob(values.T).T

    def _noise_map(self, inputs: Tensor, location: Tensor, k: int) -> NoiseMap:
        shape = self.shape(inputs[k : k + 1], group=self._continuous.index(k))[0]
        return NoiseMap(location, shape, self.scale_floor)
