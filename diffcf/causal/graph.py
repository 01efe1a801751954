"""The causal graph with its tensors: adjacency, units, and the code that networks see.

Everything else in diffcf handles factors as a tensor ``[B, K]`` scaled to [0, 1] by the graph's
ranges, in the order of :attr:`Dag.names`. Native units exist only at the edges (command line,
figures), where :meth:`CausalGraph.to_native` and :meth:`CausalGraph.to_scaled` convert.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffcf.causal.dag import Dag
from diffcf.causal.factor import ROUNDING


class CausalGraph(Dag):
    """A :class:`Dag` over named factors whose values are tensors.

    The *code* of factors ``[B, K]`` is ``[B, E]``: one column for each factor, but for a
    categorical one a column for each of its categories.
    """

    @property
    def adjacency(self) -> Tensor:
        """``[K, K]`` bool: entry ``[i, j]`` says that factor j is a parent of factor i."""
        return self._entries(self.edges)

    @property
    def known_adjacency(self) -> Tensor:
        """``[K, K]`` bool, as :attr:`adjacency`: the edges that stay where the graph is learned."""
        return self._entries(self.known)

    @property
    def free(self) -> Tensor:
        """``[K, K]`` bool, as :attr:`adjacency`: the edges that learning may set or leave out.

        They are neither known nor forbidden, and close no cycle with those that are known.
        """
        causes = torch.eye(len(self), dtype=torch.bool)  # [i, j]: j is i, or an ancestor of i
        for effect in Dag(self.factors, self.known).order:
            row = self.column(effect)
            for cause, known_effect in self.known:
                if known_effect == effect:
                    causes[row] |= causes[self.column(cause)]
        return ~(causes.T | self._entries((*self.known, *self.forbidden)))

    def _entries(self, edges: Sequence[tuple[str, str]]) -> Tensor:
        """``[K, K]`` bool, set at the edges."""
        entries = torch.zeros(len(self), len(self), dtype=torch.bool)
        for cause, effect in edges:
            entries[self.column(effect), self.column(cause)] = True
        return entries

    @property
    def reach(self) -> Tensor:
        """``[K, K]`` bool: entry ``[i, j]`` says that setting factor i may move factor j."""
        reached = [{name, *self.descendants(name)} for name in self.names]
        return torch.tensor([[name in row for name in self.names] for row in reached])

    def reached(self, is_set: Tensor) -> Tensor:
        """Factors, bool ``[B, K]``, that setting those in ``is_set`` ``[B, K]`` may move."""
        reach = self.reach.to(is_set.device, non_blocking=True)
        return is_set.float() @ reach.float() > 0

    @property
    def binary(self) -> Tensor:
        """``[K]`` bool: which factors are binary."""
        return torch.tensor([f.kind == "binary" for f in self.factors])

    @property
    def discrete(self) -> Tensor:
        """``[K]`` bool: which factors are binary or categorical."""
        return torch.tensor([not f.continuous for f in self.factors])

    @property
    def categorical(self) -> Tensor:
        """``[K]`` bool: which factors are categorical."""
        return torch.tensor([f.kind == "categorical" for f in self.factors])

    @property
    def widths(self) -> list[int]:
        """Columns of each factor's code; E in all."""
        return [f.width for f in self.factors]

    @property
    def code_owner(self) -> Tensor:
        """``[E]`` int64: the factor of every column of the code."""
        return torch.tensor([k for k, f in enumerate(self.factors) for _ in range(f.width)])

    def per_column(self, factors: Tensor) -> Tensor:
        """``[B, K]`` repeated for each factor's columns, ``[B, E]``."""
        if max(self.widths) == 1:
            return factors
        columns = zip(torch.split(factors, 1, dim=1), self.widths, strict=True)
        return torch.cat([column.expand(-1, width) for column, width in columns], dim=1)

    def first_columns(self, code: Tensor) -> Tensor:
        """The first of each factor's columns, ``[B, K]``, of a code ``[B, E]``."""
        if max(self.widths) == 1:
            return code
        return torch.cat([part[:, :1] for part in torch.split(code, self.widths, dim=1)], dim=1)

    def encode(self, factors: Tensor, dim: int = -1) -> Tensor:
        """Factors, K along ``dim``, to their code, E along ``dim``: what networks see.

        A category becomes one-hot; other values stay as they are, so without categorical factors
        the code is the factors themselves.
        """
        if not any(f.categories for f in self.factors):
            return factors
        parts = [
            one_hot(factor.category(column), factor.width).movedim(-1, dim).to(factors.dtype)
            if factor.categories
            else column.unsqueeze(dim)
            for factor, column in zip(self.factors, factors.unbind(dim), strict=True)
        ]
        return torch.cat(parts, dim)

    def decode(self, code: Tensor, hard: bool = True) -> Tensor:
        """A code ``[..., E]``, or probabilities, to factors ``[..., K]``.

        The likeliest category; the likelier value of a binary factor, unless not ``hard``; others
        as they are.
        """
        columns = []
        for factor, part in zip(self.factors, torch.split(code, self.widths, dim=-1), strict=True):
            value = part[..., 0]
            if factor.categories:
                value = part.argmax(-1).to(code.dtype) / (factor.width - 1)
            elif hard and factor.kind == "binary":
                value = (value >= 0.5).to(code.dtype)
            columns.append(value)
        return torch.stack(columns, dim=-1)

    @property
    def low(self) -> Tensor:
        return torch.tensor([f.low for f in self.factors])

    @property
    def high(self) -> Tensor:
        return torch.tensor([f.high for f in self.factors])

    def to_scaled(self, native: Tensor) -> Tensor:
        """Native units ``[..., K]`` to [0, 1] units."""
        low, high, log = self._ends(native)
        if log is not None:  # what has no logarithm becomes minus infinity
            native = torch.where(log, native.clamp_min(0).log(), native)
        return (native - low) / (high - low)

    def to_native(self, scaled: Tensor) -> Tensor:
        """[0, 1] units ``[..., K]`` to native units."""
        low, high, log = self._ends(scaled)
        native = low + scaled * (high - low)
        return native if log is None else torch.where(log, native.exp(), native)

    def _ends(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """:attr:`Factor.ends` ``[K]``, and which are of log scale, if any; as ``like`` has them."""
        # In the precision of `like`: an end rounded to float32 lies outside a float64 range.
        low, high = torch.tensor([f.ends for f in self.factors], dtype=torch.float64).to(like).T
        log = [f.scale == "log" for f in self.factors]
        return low, high, torch.tensor(log, device=like.device) if any(log) else None

    def clip(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Factors ``[..., K]`` within their range, and which had to be clipped, bool of that shape.

        What lies off an end by float32 rounding is taken for the end, which does not count.
        """
        beyond = (factors < -ROUNDING) | (factors > 1 + ROUNDING)
        return factors.clamp(0, 1), beyond

    def snap(self, factors: Tensor) -> Tensor:
        """The nearest factors ``[..., K]`` that interventions may set (:meth:`Factor.snap`)."""
        columns = zip(self.factors, factors.unbind(-1), strict=True)
        return torch.stack([factor.snap(column) for factor, column in columns], dim=-1)

    def whole(self, factors: Tensor) -> Tensor:
        """Factors ``[..., K]`` as they are shown: integer ones at whole numbers, others as is."""
        if all(factor.kind != "integer" for factor in self.factors):
            return factors
        integer = torch.tensor([f.kind == "integer" for f in self.factors], device=factors.device)
        return torch.where(integer, self.snap(factors), factors)

    def native_rows(self, factors: Tensor) -> list[list[float | str]]:
        """Factors ``[B, K]`` in [0, 1] units for files (:meth:`Factor.written`).

        >>> from diffcf.causal import Factor
        >>> shape = Factor("shape", "categorical", categories=("cube", "ball"))
        >>> graph = CausalGraph([Factor("size", low=0.0, high=10.0), shape])
        >>> graph.native_rows(torch.tensor([[0.5, 1.0]]))
        [[5.0, 'ball']]
        """
        rows = factors.tolist()
        return [[f.written(z) for f, z in zip(self.factors, row, strict=True)] for row in rows]
