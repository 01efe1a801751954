"""The causal graph: which factors there are, in which units, and which cause which.

Everything else in diffcf handles factors as a tensor ``[B, K]`` scaled to [0, 1] by the graph's
ranges, in the order of :attr:`CausalGraph.names`. Native units exist only at the edges (command
line, figures), where :meth:`CausalGraph.to_native` and :meth:`CausalGraph.to_scaled` convert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from diffcf.causal.factor import Factor, factor_from_spec, factor_to_spec
from diffcf.io import GraphError, YamlError, load_yaml

MOST = 500  # factors: masks of edges take the square of it


class CausalGraph:
    """A directed acyclic graph over named factors.

    Args:
        factors: the factors, in the order of the factor tensor's columns.
        edges: pairs ``(cause, effect)`` of factor names.

    Raises:
        GraphError: for duplicate or unknown names, self-loops, duplicate edges and cycles.
    """

    def __init__(self, factors: Sequence[Factor], edges: Sequence[Sequence[str]] = ()) -> None:
        self.factors = tuple(factors)
        self.edges = tuple((str(cause), str(effect)) for cause, effect in map(tuple, edges))
        self.names = tuple(f.name for f in self.factors)
        self._column = {name: k for k, name in enumerate(self.names)}
        self._check_names()
        self._parents: dict[str, tuple[str, ...]] = dict.fromkeys(self.names, ())
        self._children = dict(self._parents)
        for cause, effect in self.edges:
            self._parents[effect] += (cause,)
            self._children[cause] += (effect,)
        try:
            self.order = tuple(TopologicalSorter(self._parents).static_order())
        except CycleError as error:
            cycle = " → ".join(error.args[1])
            raise GraphError(f"The graph has a cycle, {cycle}: remove one of its edges.") from None

    def _check_names(self) -> None:
        if not self.factors:
            raise GraphError("The graph has no factors: name at least one.")
        if len(self.factors) > MOST:
            raise GraphError(f"The graph has {len(self.factors)} factors: {MOST} are the most.")
        if len(self._column) < len(self.names):
            name = next(n for k, n in enumerate(self.names) if self._column[n] != k)
            raise GraphError(f"Factor '{name}' is declared twice: give each its own name.")
        seen: set[tuple[str, str]] = set()
        for cause, effect in self.edges:
            for name in (cause, effect):
                if name not in self._column:
                    raise GraphError(
                        f"Edge {cause:.100} → {effect:.100} names the unknown factor "
                        f"'{name:.100}': the factors are {', '.join(self.names)}."
                    )
            if cause == effect:
                raise GraphError(f"Factor '{cause}' cannot cause itself: remove that edge.")
            if (cause, effect) in seen:
                raise GraphError(f"Edge {cause} → {effect} is declared twice: keep one.")
            seen.add((cause, effect))

    # --- structure ---

    def __len__(self) -> int:
        return len(self.factors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CausalGraph):
            return NotImplemented
        return self.factors == other.factors and set(self.edges) == set(other.edges)

    def __hash__(self) -> int:
        return hash((self.factors, frozenset(self.edges)))

    def __repr__(self) -> str:
        edges = ", ".join(f"{cause} → {effect}" for cause, effect in self.edges)
        return f"CausalGraph({', '.join(self.names)}; {edges or 'no edges'})"

    def column(self, name: str) -> int:
        """The column of factor ``name`` in a factor tensor; GraphError when it is unknown."""
        if name not in self._column:
            raise GraphError(f"Unknown factor '{name}': the factors are {', '.join(self.names)}.")
        return self._column[name]

    def parents(self, name: str) -> tuple[str, ...]:
        self.column(name)
        return self._parents[name]

    def children(self, name: str) -> tuple[str, ...]:
        self.column(name)
        return self._children[name]

    def descendants(self, name: str) -> frozenset[str]:
        """All factors that ``name`` causes, directly or not; ``name`` itself is not among them."""
        found: set[str] = set()
        frontier = list(self.children(name))
        while frontier:
            node = frontier.pop()
            if node not in found:
                found.add(node)
                frontier.extend(self._children[node])
        return frozenset(found)

    @property
    def roots(self) -> tuple[str, ...]:
        """Factors with children that nothing causes."""
        return tuple(n for n in self.names if not self._parents[n] and self._children[n])

    @property
    def leaves(self) -> tuple[str, ...]:
        """Factors without children (an isolated factor counts as a leaf)."""
        return tuple(n for n in self.names if not self._children[n])

    @property
    def adjacency(self) -> Tensor:
        """``[K, K]`` bool: entry ``[i, j]`` says that factor j is a parent of factor i."""
        matrix = torch.zeros(len(self), len(self), dtype=torch.bool)
        for cause, effect in self.edges:
            matrix[self._column[effect], self._column[cause]] = True
        return matrix

    @property
    def reach(self) -> Tensor:
        """``[K, K]`` bool: entry ``[i, j]`` says that setting factor i may move factor j."""
        rows = [[j == i or j in self.descendants(i) for j in self.names] for i in self.names]
        return torch.tensor(rows)

    # --- units ---

    @property
    def low(self) -> Tensor:
        return torch.tensor([f.low for f in self.factors])

    @property
    def high(self) -> Tensor:
        return torch.tensor([f.high for f in self.factors])

    @property
    def binary(self) -> Tensor:
        """``[K]`` bool: which factors are binary."""
        return torch.tensor([f.kind == "binary" for f in self.factors])

    @property
    def discrete(self) -> Tensor:
        """``[K]`` bool: which factors are binary or categorical."""
        return torch.tensor([f.kind != "continuous" for f in self.factors])

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

    @property
    def code_first(self) -> Tensor:
        """``[K]`` int64: the first column of every factor in the code."""
        widths = torch.tensor(self.widths)
        return widths.cumsum(0) - widths

    def encode(self, factors: Tensor, dim: int = -1) -> Tensor:
        """Factors, K along ``dim``, to their code, E along ``dim``: what networks see.

        A category becomes one-hot; other values stay as they are, so without categorical factors
        the code is the factors themselves.
        """
        if not any(f.categories for f in self.factors):
            return factors
        parts = []
        for factor, column in zip(self.factors, factors.unbind(dim), strict=True):
            if factor.categories:
                code = one_hot(factor.place(column), factor.width)
                parts.append(code.movedim(-1, dim).to(factors.dtype))
            else:
                parts.append(column.unsqueeze(dim))
        return torch.cat(parts, dim)

    def decode(self, code: Tensor, hard: bool = True) -> Tensor:
        """A code ``[..., E]``, or probabilities, to factors ``[..., K]``.

        The likeliest category; the likelier value of a binary factor, unless not ``hard``; others
        as they are.
        """
        columns = []
        for factor, part in zip(self.factors, code.split(self.widths, dim=-1), strict=True):
            if factor.categories:
                value = part.argmax(-1).to(code.dtype) / (factor.width - 1)
            else:
                value = part[..., 0]
                if hard and factor.kind == "binary":
                    value = (value >= 0.5).to(code.dtype)
            columns.append(value)
        return torch.stack(columns, dim=-1)

    def to_scaled(self, native: Tensor) -> Tensor:
        """Native units ``[..., K]`` to [0, 1] units."""
        low, high = self.low.to(native), self.high.to(native)
        return (native - low) / (high - low)

    def to_native(self, scaled: Tensor) -> Tensor:
        """[0, 1] units ``[..., K]`` to native units."""
        low, high = self.low.to(scaled), self.high.to(scaled)
        return low + scaled * (high - low)

    # --- text ---

    def to_dict(self) -> dict[str, Any]:
        """Primitive description; :meth:`from_dict` reads it back."""
        factors = {f.name: factor_to_spec(f) for f in self.factors}
        return {"factors": factors, "edges": [list(edge) for edge in self.edges]}

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> CausalGraph:
        """Read ``{"factors": {name: {"kind", "range"}}, "edges": [[cause, effect], ...]}``.

        A categorical factor has ``categories``, a list of names, instead of a range.
        """
        if not isinstance(spec, Mapping) or not isinstance(spec.get("factors"), Mapping):
            raise GraphError("A graph needs a mapping 'factors' of name to {kind, range}.")
        unknown = sorted(map(str, set(spec) - {"factors", "edges"}))
        if unknown:
            raise GraphError(f"Unknown graph key {unknown[0]!r:.100}: use 'factors' and 'edges'.")
        described = spec["factors"].items()
        factors = [factor_from_spec(n, {} if s is None else s) for n, s in described]
        edges = spec.get("edges")
        edges = [] if edges is None else edges
        if not isinstance(edges, list | tuple) or any(
            not isinstance(e, list | tuple) or len(e) != 2 for e in edges
        ):
            raise GraphError("Graph 'edges' must be a list of pairs [cause, effect].")
        return cls(factors, edges)

    @classmethod
    def from_yaml(cls, path: str | Path) -> CausalGraph:
        """Read a graph file; GraphError when it is missing or not YAML."""
        path = Path(path)
        if not path.is_file():
            raise GraphError(f"Graph file {path} does not exist: check the path.")
        try:
            return cls.from_dict(load_yaml(path))
        except YamlError as error:
            raise GraphError(f"Graph file {path} is not valid YAML: {error}.") from None


def written(graph: CausalGraph, factors: Tensor) -> list[list[float | str]]:
    """Rows of ``factors`` ``[B, K]``, in [0, 1] units, in the graph's own.

    >>> import torch
    >>> from diffcf.causal import Factor
    >>> shape = Factor("shape", "categorical", categories=("cube", "ball"))
    >>> graph = CausalGraph([Factor("size", low=0.0, high=10.0), shape])
    >>> written(graph, torch.tensor([[0.5, 1.0]]))
    [[5.0, 'ball']]
    """
    rows: list[list[float | str]] = []
    for scaled, native in zip(factors.tolist(), graph.to_native(factors).tolist(), strict=True):
        pairs = zip(graph.factors, scaled, native, strict=True)
        rows.append([f.text(place) if f.categories else value for f, place, value in pairs])
    return rows
