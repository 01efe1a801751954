r"""The non-parametric structural causal model: mechanisms, abduction, prediction.

Each factor is :math:`z_i = f_i(pa_i, u_i)` with an f that is invertible in the exogenous
:math:`u_i`. A continuous factor is a location-scale map composed with a monotone spline, both
conditioned on the parents, with u ~ N(0, 1); a binary factor is ``[logit(pa) + u > 0]`` with a
logistic u (the Gumbel-max mechanism of two classes). A root has no inputs, hence an unconditional
spline. All mechanisms are evaluated together by grouped networks.

References:
    - Deep Structural Causal Models for Tractable Counterfactual Inference, Pawlowski et al. 2020,
      https://arxiv.org/abs/2006.06485
    - Causal Normalizing Flows, Javaloy et al. 2023, https://arxiv.org/abs/2306.05415
    - Counterfactual Off-Policy Evaluation with Gumbel-Max SCMs, Oberst & Sontag 2019,
      https://arxiv.org/abs/1905.05824
    - DAGs with NO TEARS, Zheng et al. 2018, https://arxiv.org/abs/1803.01422
    - On the Pitfalls of Heteroscedastic Uncertainty Estimation, Seitzer et al. 2022,
      https://arxiv.org/abs/2203.09168
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcf.graph import CausalGraph, GraphError
from diffcf.mechanisms import (
    EdgeGates,
    GroupedMLP,
    NoiseMap,
    full_precision,
    result_dtype,
    strongest_dag,
    truncated_logistic,
    wide_dtype,
    with_column,
)

__all__ = ["NSCM"]


class NSCM(nn.Module):
    """Structural equations over the factors of ``graph``.

    Factors are ``[B, K]`` in the graph's [0, 1] units, binary ones 0/1 (a value of at least .5
    counts as 1). All methods compute in float32 or better whatever autocast says; abduction and
    prediction use float64 inside (float32 on devices without it) and return float32, or float64
    for float64 factors.

    Args:
        graph: the factors and, unless ``learned_graph``, their causes.
        hidden: widths of the hidden layers of each factor's location (or logit) network; the
            network of scale and spline has one layer of the last width.
        bins: bins of each spline.
        scale_floor: least scale of a mechanism, in [0, 1] units. A factor that its parents
            determine ends up at this floor, where exogenous values act additively.
        learned_graph: learn which factor causes which, ignoring the edges of ``graph``. Training
            draws edges for every sample; :attr:`adjacency` is what they settle on. Likelihood
            identifies directions only as far as mechanisms and noise break the symmetry: where
            factors determine each other, as on Pendulum, cause and effect change places at equal
            likelihood, so read the result as *a* graph that explains the data. With acyclicity
            weighted 1 to 3 and sparsity .05 to .1, 2,000 steps end 1 to 2 edges from Pendulum's
            published graph and 1 to 3 from Flow's; with weaker acyclicity they end in cycles.

    Raises:
        ValueError: for settings out of range.
        GraphError: from every method, for factors that do not fit the graph or are not finite.
    """

    _is_binary: Tensor
    _known_adjacency: Tensor

    def __init__(
        self,
        graph: CausalGraph,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        scale_floor: float = 0.01,
        learned_graph: bool = False,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"NSCM 'hidden' needs positive layer widths, got {list(hidden)}.")
        if bins < 2:
            raise ValueError(f"NSCM 'bins' must be at least 2, got {bins}.")
        if not 0 < scale_floor < 1:
            raise ValueError(f"NSCM 'scale_floor' must be between 0 and 1, got {scale_floor}.")
        self.graph = graph
        self.scale_floor = float(scale_floor)
        size = len(graph)
        self._binary = graph.binary.tolist()
        self._continuous = [k for k in range(size) if not self._binary[k]]
        # a learned graph's mechanisms also see which parents they have
        fan_in = 2 * size if learned_graph else size
        self.location = GroupedMLP(size, [fan_in, *hidden, 1])
        if self._continuous:
            self.shape = GroupedMLP(len(self._continuous), [fan_in, hidden[-1], 3 * bins])
        self.gates = EdgeGates(size) if learned_graph else None
        self.register_buffer("_is_binary", graph.binary, persistent=False)
        self.register_buffer("_known_adjacency", graph.adjacency, persistent=False)

    # --- structure ---

    @property
    def adjacency(self) -> Tensor:
        """``[K, K]`` bool, ``[i, j]``: j is a parent of i. A learned one is thresholded at 1/2
        and loses the weakest edge of every cycle."""
        if self.gates is None:
            return self._known_adjacency
        return strongest_dag(self.gates.probabilities())

    def learned(self) -> CausalGraph:
        """The graph of :attr:`adjacency`: for a known graph, that graph."""
        if self.gates is None:
            return self.graph
        names = self.graph.names
        edges = [(names[j], names[i]) for i, j in self.adjacency.nonzero().tolist()]
        return CausalGraph(self.graph.factors, edges)

    # --- likelihood ---

    def log_prob(self, factors: Tensor) -> Tensor:
        """Per-factor ``log p(z_i | pa_i)``, ``[B, K]`` float32: densities or log probabilities.

        With a learned graph, training mode draws a graph and evaluation mode uses the settled one.
        """
        with full_precision(factors):
            z = self._checked(factors).float()
            inputs = self._inputs(z, self._gates(len(z)))
            return self._log_prob(z, inputs, self.location(inputs)[..., 0])

    def loss(self, factors: Tensor) -> dict[str, Tensor]:
        """Scalars to minimise: ``nscm`` and, with a learned graph, ``acyclicity``, ``sparsity``.

        ``nscm`` is the mean negative log-likelihood per factor. Only the gradient that continuous
        locations receive is scaled, by ``scale_floor``: the likelihood weights it by 1/σ², which
        would dominate a gradient norm shared with other networks. Adam does not notice a constant
        factor, and of the weightings tried (σ⁻² as here, β-NLL of Seitzer et al. 2022 with β = ½
        and 1, squared, absolute and Huber error) the likelihood's own fitted Pendulum best.
        """
        with full_precision(factors):
            z = self._checked(factors).float()
            gates = self._gates(len(z))
            inputs = self._inputs(z, gates)
            location = self.location(inputs)[..., 0]
            if location.requires_grad:
                location.register_hook(self._damp)
            log_prob = self._log_prob(z, inputs, location)
            losses = {"nscm": -log_prob.mean()}
            if self.gates is not None:
                if self.training:
                    score = self.gates.score(gates, log_prob)
                    losses["nscm"] = losses["nscm"] - score + score.detach()
                losses |= self.gates.penalties()
            return losses

    def _damp(self, gradient: Tensor) -> Tensor:
        return torch.where(self._is_binary[:, None], gradient, self.scale_floor * gradient)

    def _log_prob(self, factors: Tensor, inputs: Tensor, location: Tensor) -> Tensor:
        """``[B, K]`` from factors ``[B, K]``, inputs and location ``[K, B]``."""
        sign = torch.where(factors.T >= 0.5, 1.0, -1.0)
        rows = list(F.logsigmoid(sign * location))
        if self._continuous:
            shape = self.shape(self._of_continuous(inputs))
            noise_map = NoiseMap(self._of_continuous(location), shape, self.scale_floor)
            density = noise_map.log_prob(self._of_continuous(factors.T))
            for k, row in zip(self._continuous, density, strict=True):
                rows[k] = row
        return torch.stack(rows, dim=1)

    # --- counterfactuals ---

    def abduct(self, factors: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Exogenous values ``[B, K]`` that explain ``factors``.

        Exact for continuous factors. For binary ones a sample from the posterior, drawn with
        ``generator`` (on the factors' device): a logistic truncated to the observed side.
        """
        with full_precision(factors):
            z = self._checked(factors).to(wide_dtype(factors))
            inputs = self._inputs(z, self.adjacency)
            columns = []
            for k, binary in enumerate(self._binary):
                location = self._location(inputs, k)
                if binary:
                    columns.append(truncated_logistic(location, z[:, k] >= 0.5, generator))
                else:
                    columns.append(self._noise_map(inputs, location, k).to_noise(z[:, k]))
            return torch.stack(columns, dim=1).to(result_dtype(factors))

    def decode(self, exogenous: Tensor) -> Tensor:
        """Factors ``[B, K]`` of exogenous values alone: the inverse of :meth:`abduct`."""
        with full_precision(exogenous):
            u = self._checked(exogenous, "Exogenous value of").to(wide_dtype(exogenous))
            z = torch.zeros_like(u)
            adjacency = self.adjacency
            for k in self._order():
                z = with_column(z, k, self._mechanism(z, u, adjacency, k))
            return z.to(result_dtype(exogenous))

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Counterfactual factors under per-sample interventions.

        Args:
            factors: ``[B, K]`` factual.
            exogenous: ``[B, K]`` from :meth:`abduct`.
            values: ``[B, K]`` imposed values; read only where ``mask`` is set.
            mask: ``[B, K]`` bool, the factors intervened upon in each sample.

        Returns:
            ``[B, K]``: imposed values where ``mask`` is set, the factual bit for bit where no
            ancestor is intervened upon, and elsewhere the mechanism applied to the parents'
            counterfactual values and the factual's exogenous value.
        """
        with full_precision(factors):
            if not factors.shape == exogenous.shape == values.shape == mask.shape:
                raise GraphError(
                    "predict needs factors, exogenous, values and mask of one shape, got "
                    f"{', '.join(str(list(t.shape)) for t in (factors, exogenous, values, mask))}."
                )
            z, wide = self._checked(factors), wide_dtype(factors)
            u = self._checked(exogenous, "Exogenous value of").to(wide)
            imposed = self._checked(torch.where(mask, values, z), "Imposed value of")
            adjacency = self.adjacency
            result, moved = imposed.to(result_dtype(factors)), mask
            for k in self._order():
                reached = (moved & adjacency[k]).any(dim=1) & ~mask[:, k]
                anew = self._mechanism(result.to(wide), u, adjacency, k).to(result.dtype)
                result = with_column(result, k, torch.where(reached, anew, result[:, k]))
                moved = with_column(moved, k, moved[:, k] | reached)
            return result

    # --- parts ---

    def _gates(self, batch: int) -> Tensor:
        return (
            self.gates.sample(batch) if self.gates is not None and self.training else self.adjacency
        )

    def _order(self) -> list[int]:
        graph = self.learned()
        return [graph.column(name) for name in graph.order]

    def _inputs(self, factors: Tensor, gates: Tensor) -> Tensor:
        """``[B, K]`` to ``[K, B, K or 2K]``: what each row of gates lets through, centred."""
        seen = torch.where(self._is_binary, (factors >= 0.5).to(factors.dtype), factors)
        gates = gates.to(factors.dtype)
        gates = gates[:, None, :] if gates.ndim == 2 else gates.transpose(0, 1)
        inputs = gates * (2 * seen - 1)
        # an absent parent must not look like one in mid-range
        return inputs if self.gates is None else torch.cat([inputs, gates.expand_as(inputs)], -1)

    def _of_continuous(self, rows: Tensor) -> Tensor:
        """The rows of the continuous factors out of K."""
        return rows[self._continuous] if any(self._binary) else rows

    def _location(self, inputs: Tensor, k: int) -> Tensor:
        return self.location(inputs[k : k + 1], group=k)[0, :, 0]

    def _noise_map(self, inputs: Tensor, location: Tensor, k: int) -> NoiseMap:
        shape = self.shape(inputs[k : k + 1], group=self._continuous.index(k))[0]
        return NoiseMap(location, shape, self.scale_floor)

    def _mechanism(self, factors: Tensor, exogenous: Tensor, adjacency: Tensor, k: int) -> Tensor:
        """``f_k``: column k ``[B]`` from its parents' columns and its exogenous value."""
        inputs = self._inputs(factors, adjacency)
        location = self._location(inputs, k)
        if self._binary[k]:
            return (location + exogenous[:, k] > 0).to(factors.dtype)
        return self._noise_map(inputs, location, k).to_factor(exogenous[:, k])

    def _checked(self, factors: Tensor, what: str = "Factor") -> Tensor:
        """``factors`` itself; GraphError unless it is a finite ``[B, K]``."""
        names = self.graph.names
        if factors.ndim != 2 or factors.shape[1] != len(names):
            raise GraphError(
                f"The NSCM needs a tensor [B, {len(names)}], one column for each of "
                f"{', '.join(names)}, got {list(factors.shape)}."
            )
        finite = factors.isfinite()
        if not finite.all():
            worst = int((~finite).any(dim=0).nonzero()[0])
            raise GraphError(f"{what} '{names[worst]}' is not finite: check where it comes from.")
        return factors
