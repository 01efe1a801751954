r"""The non-parametric structural causal model: mechanisms, abduction, prediction.

Each factor is :math:`z_i = f_i(pa_i, u_i)`, by the mechanisms of :mod:`diffcf.causal.equations`.
The exogenous values u have one column per factor, a categorical one for each category: E in all.

References:
    Deep Structural Causal Models (Pawlowski et al., 2020), https://arxiv.org/abs/2006.06485
    Causal Normalizing Flows (Javaloy et al., 2023), https://arxiv.org/abs/2306.05415
    Gumbel-Max SCMs (Oberst & Sontag, 2019), https://arxiv.org/abs/1905.05824
    β-NLL (Seitzer et al., 2022), https://arxiv.org/abs/2203.09168
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffcf.causal.equations import StructuralEquations
from diffcf.causal.graph import CausalGraph
from diffcf.causal.keys import uniform_noise
from diffcf.causal.marks import Marks
from diffcf.causal.mechanisms import full_precision, result_dtype, wide_dtype, with_column
from diffcf.causal.refinement import CONTAMINATION, drawn_reading, refine
from diffcf.causal.structure import EdgeGates, strongest_dag
from diffcf.io import GraphError, SettingsError, on_host


class NSCM(nn.Module):
    """Structural equations over the factors of ``graph``.

    Factors are ``[B, K]`` in the graph's [0, 1] units, binary ones 0/1 (a value of at least .5
    counts as 1), categorical ones as the graph scales them. All methods compute in float32 or
    better whatever autocast says; abduction and prediction use float64 inside (float32 on devices
    without it) and return float32, or float64 for float64 factors.

    Args:
        graph: the factors and, unless ``learned_graph``, their causes.
        hidden: widths of the hidden layers of each factor's location (or logit) network; the
            network of scale and spline has one layer of the last width.
        bins: bins of each spline.
        scale_floor: least scale of a mechanism, in [0, 1] units. A factor that its parents
            determine ends up at this floor, where exogenous values act additively.
        learned_graph: learn which factor causes which. Of the edges of ``graph`` those that are
            ``known`` stay, and none that is ``forbidden`` is learned; others are ignored. Where
            factors determine each other, as on Pendulum, both directions are equally likely: read
            the result as *a* graph that explains the data. With acyclicity weighted 1 to 3 and
            sparsity .05 to .1, 2,000 steps end 1 to 2 edges from Pendulum's published graph and 1
            to 3 from Flow's; with weaker acyclicity they end in cycles.

    Raises:
        ValueError: for settings out of range.
        GraphError: from every method, for factors that do not fit the graph or are not finite.
    """

    _given_adjacency: Tensor

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
            raise SettingsError(f"NSCM 'hidden' needs positive layer widths, got {list(hidden)}.")
        if bins < 2:
            raise SettingsError(f"NSCM 'bins' must be at least 2, got {bins}.")
        if not 0 < scale_floor < 1:
            raise SettingsError(f"NSCM 'scale_floor' must be between 0 and 1, got {scale_floor}.")
        self.graph = graph
        self.equations = StructuralEquations(graph, hidden, bins, float(scale_floor), learned_graph)
        self.gates = EdgeGates(graph) if learned_graph else None
        self.register_buffer("_given_adjacency", graph.adjacency, persistent=False)

    # --- structure ---

    @property
    def adjacency(self) -> Tensor:
        """``[K, K]`` bool, ``[i, j]``: j is a parent of i. A learned one is thresholded at 1/2
        and loses the weakest edge of every cycle, but no known one."""
        if self.gates is None:
            return self._given_adjacency
        return strongest_dag(self.gates.probabilities(), known=self.gates.known)

    def learned(self) -> CausalGraph:
        """The graph of :attr:`adjacency`: for a known graph, that graph."""
        if self.gates is None:
            return self.graph
        names = self.graph.names
        edges = [(names[j], names[i]) for i, j in self.adjacency.nonzero().tolist()]
        return CausalGraph(self.graph.factors, edges, self.graph.known, self.graph.forbidden)

    def _order(self) -> list[int]:
        graph = self.learned()
        return [graph.column(name) for name in graph.order]

    def _gates(self, batch: int) -> Tensor:
        """A drawn graph for every sample while a graph is learned, else :attr:`adjacency`."""
        if self.gates is not None and self.training:
            return self.gates.sample(batch)
        return self.adjacency

    def _possible_parents(self) -> Tensor:
        """``[K, K]`` bool: the given adjacency or, while a graph is learned, all that may be."""
        return self._given_adjacency if self.gates is None else self.gates.possible

    # --- likelihood ---

    def log_prob(self, factors: Tensor) -> Tensor:
        """Per-factor ``log p(z_i | pa_i)``, ``[B, K]`` float32: densities or log probabilities.

        While a graph is learned, training mode draws a graph for every sample.
        """
        with full_precision(factors):
            z = self._checked(factors).float()
            inputs = self.equations.inputs(z, self._gates(len(z)))
            return self.equations.log_prob(z, inputs)

    def loss(self, factors: Tensor, marks: Marks | None = None) -> dict[str, Tensor]:
        """Scalars to minimise: ``nscm`` and, with a learned graph, ``acyclicity``, ``sparsity``.

        ``nscm`` is the mean negative log-likelihood per factor. A mechanism that ``marks`` leave
        out of a row (:meth:`Marks.mechanisms`) counts as 0 there, and the mean stays that over all,
        so that a label weighs the same in whichever batch or process it comes. While a graph is
        learned any other factor may be a parent, so that only rows without a missing label count.

        The gradient of continuous locations is scaled by ``scale_floor``: the likelihood weights it
        by 1/σ², which would dominate a gradient norm shared with other networks, and Adam ignores a
        constant factor. Of the weightings tried (σ⁻² as here, β-NLL with β = ½ and 1, squared,
        absolute and Huber error) the likelihood's own fitted Pendulum best.
        """
        with full_precision(factors):
            # Where a label is missing, any value does: what depends on it is left out.
            given = factors if marks is None else torch.where(marks.observed, factors, 0.0)
            z = self._checked(given).float()
            gates = self._gates(len(z))
            log_prob = self.equations.log_prob(z, self.equations.inputs(z, gates), damp=True)
            counted = None if marks is None else marks.mechanisms(self._possible_parents())
            kept = log_prob if counted is None else torch.where(counted, log_prob, 0.0)
            losses = {"nscm": -kept.mean()}
            if self.gates is not None:
                if self.training:
                    score = self.gates.score(gates, log_prob, counted)
                    losses["nscm"] = losses["nscm"] - score + score.detach()
                losses |= self.gates.penalties()
            return losses

    # --- counterfactuals ---

    def refine(
        self,
        code: Tensor,
        variance: Tensor,
        contamination: float = CONTAMINATION,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Factors ``[B, K]`` of an uncertain reading, corrected by the mechanisms.

        ``code`` and ``variance`` ``[B, E]`` are the reading's; ``contamination`` is the δ of
        :mod:`diffcf.causal.refinement`: 1 takes the reading as it is. With uniform ``noise``
        ``[B, K]`` they are a draw of what the reading leaves open.
        """
        factors = self.graph.decode(code)
        if noise is not None:
            drawn = drawn_reading(self.graph, code, variance, noise)
            below = self.adjacency.any(dim=1) & ~self.graph.discrete.to(code.device)
            factors = torch.where(below & (contamination < 1), factors, drawn)
        if contamination >= 1:
            return factors
        with full_precision(code):
            read = self._checked(factors).to(wide_dtype(factors))
            deviation = self.graph.first_columns(variance).to(read).sqrt()
            graph = self.learned()
            effects = [graph.column(name) for name in graph.order if graph.parents(name)]
            known = (self.equations, self.adjacency, effects)
            result = refine(*known, read, deviation, contamination, noise)
            return result.to(result_dtype(factors))

    def abduct(self, factors: Tensor, keys: Tensor | None = None) -> Tensor:
        """Exogenous values ``[B, E]`` that explain ``factors``: exact for continuous ones.

        For discrete ones a sample from the posterior, a function of the ``keys`` ``[B]`` of the
        images (:mod:`diffcf.causal.keys`); ValueError where it needs keys and there are none.
        """
        if keys is None and self.equations.drawn:
            raise ValueError(
                f"The noise of '{self.equations.drawn[0]}' is drawn: give abduct the keys of the "
                "images (diffcf.causal.image_keys or row_keys), so that it is theirs."
            )
        with full_precision(factors):
            z = self._checked(factors).to(wide_dtype(factors))
            inputs = self.equations.inputs(z, self.adjacency)
            keys = z.new_zeros(len(z), dtype=torch.int64) if keys is None else keys.to(z.device)
            widths = self.graph.widths
            noise = torch.split(uniform_noise(keys, sum(widths), z.dtype), widths, dim=1)
            columns = [self.equations.abduct(z, inputs, k, u) for k, u in enumerate(noise)]
            return torch.cat(columns, dim=1).to(result_dtype(factors))

    def draw(self, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Factors ``[B, K]`` of which nothing is known, and their exogenous values ``[B, E]``.

        These are drawn from their prior, a function of ``keys`` ``[B]`` alone. ``values`` and
        ``mask`` are as in :meth:`predict`, as is what mechanisms see of a value beyond its range.
        """
        widths = self.graph.widths
        exogenous = self.equations.draw(uniform_noise(keys, sum(widths), wide_dtype(keys)))
        alone = self.decode(exogenous).to(values).clamp(0, 1)
        roots = ~self.adjacency.any(dim=1)
        imposed = torch.where(mask, values, alone)
        return self.predict(alone, exogenous, imposed, mask | roots), exogenous

    def decode(self, exogenous: Tensor) -> Tensor:
        """Factors ``[B, K]`` of exogenous values alone: the inverse of :meth:`abduct`."""
        with full_precision(exogenous):
            u = self._checked_exogenous(exogenous)
            z = u.new_zeros(len(u), len(self.graph))
            adjacency = self.adjacency
            for k in self._order():
                z = with_column(z, k, self.equations.evaluate(z, u, adjacency, k))
            return z.to(result_dtype(exogenous))

    def predict(self, factors: Tensor, exogenous: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Counterfactual factors ``[B, K]`` of factual ones with ``exogenous`` ``[B, E]``.

        They are the imposed ``values`` (read only there) where ``mask`` ``[B, K]`` (bool, sample by
        sample) is set, the factual bit for bit where no ancestor is intervened upon, and elsewhere
        the mechanism applied to the parents' counterfactual values and the exogenous value.

        A value may lie beyond its range; mechanisms take the end of the range for it, as does
        whatever draws it (:meth:`CausalGraph.clip`), so setting it to that end changes nothing.
        """
        with full_precision(factors):
            if not factors.shape == values.shape == mask.shape or len(exogenous) != len(factors):
                shapes = [list(given.shape) for given in (factors, values, mask, exogenous)]
                raise GraphError(
                    "predict needs factors, values and mask of one shape and as many exogenous "
                    f"rows, got {', '.join(map(str, shapes))}."
                )
            z, u = self._checked(factors), self._checked_exogenous(exogenous)
            imposed = self._checked(torch.where(mask, values, z), "Imposed value of")
            adjacency = self.adjacency
            result, moved = imposed.to(result_dtype(factors)), mask
            seen = result.to(u.dtype)  # by the mechanisms
            for k in self._order():
                reached = (moved & adjacency[k]).any(dim=1) & ~mask[:, k]
                anew = self.equations.evaluate(seen, u, adjacency, k).to(result.dtype)
                result = with_column(result, k, torch.where(reached, anew, result[:, k]))
                inside = torch.where(reached, anew.clamp(0, 1), seen[:, k])
                seen = with_column(seen, k, inside.to(u.dtype))
                moved = with_column(moved, k, moved[:, k] | reached)
            return result

    def _checked(self, factors: Tensor, what: str = "Factor") -> Tensor:
        """``factors`` itself; GraphError unless it is a finite ``[B, K]``."""
        return _finite(factors, self.graph.names, what)

    def _checked_exogenous(self, exogenous: Tensor) -> Tensor:
        """A finite ``[B, E]`` in the dtype to compute in, or GraphError."""
        names = [factor.name for factor in self.graph.factors for _ in range(factor.width)]
        return _finite(exogenous, names, "Exogenous value of").to(wide_dtype(exogenous))


def _finite(values: Tensor, names: Sequence[str], what: str) -> Tensor:
    if values.ndim != 2 or values.shape[1] != len(names):
        wanted = f"a tensor [B, {len(names)}], one column for each of {', '.join(names)}"
        raise GraphError(f"The NSCM needs {wanted}, got {list(values.shape)}.")
    finite = values.isfinite().all(dim=0) if on_host(values) else None
    if finite is not None and not finite.all():
        name = names[int((~finite).nonzero()[0])]
        raise GraphError(f"{what} '{name}' is not finite: check where it comes from.")
    return values
