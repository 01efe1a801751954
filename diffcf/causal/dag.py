"""The structure of a causal graph: which factors there are, and which cause which.

No tensors here, so that a graph can be read and checked without PyTorch;
:class:`diffcf.causal.graph.CausalGraph` adds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Self

from diffcf.causal.description import given
from diffcf.causal.factor import Factor
from diffcf.io import GraphError, YamlError, load_written, load_yaml

MOST = 500  # factors: masks of edges take the square of it


class Dag:
    """A directed acyclic graph over named factors.

    Args:
        factors: the factors, in the order of the factor tensor's columns.
        edges: pairs ``(cause, effect)`` of factor names.

    Attributes:
        order: names of the factors, causes before their effects.

    Raises:
        GraphError: for duplicate or unknown names, self-loops, duplicate edges and cycles.
    """

    def __init__(self, factors: Sequence[Factor], edges: Sequence[Sequence[str]] = ()) -> None:
        self.factors = tuple(factors)
        self.edges = tuple((str(cause), str(effect)) for cause, effect in edges)
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
        for name, count in Counter(self.names).items():
            if count > 1:
                raise GraphError(f"Factor '{name}' is declared twice: give each its own name.")
        for (cause, effect), count in Counter(self.edges).items():
            edge = f"Edge {cause:.100} → {effect:.100}"
            for name in (cause, effect):
                if name not in self._column:
                    known = f"the factors are {', '.join(self.names)}"
                    raise GraphError(f"{edge} names the unknown factor '{name:.100}': {known}.")
            if cause == effect:
                raise GraphError(f"Factor '{cause}' cannot cause itself: remove that edge.")
            if count > 1:
                raise GraphError(f"{edge} is declared twice: keep one.")

    def __len__(self) -> int:
        return len(self.factors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dag):
            return NotImplemented
        return self.factors == other.factors and set(self.edges) == set(other.edges)

    def __hash__(self) -> int:
        return hash((self.factors, frozenset(self.edges)))

    def __repr__(self) -> str:
        edges = ", ".join(f"{cause} → {effect}" for cause, effect in self.edges)
        return f"{type(self).__name__}({', '.join(self.names)}; {edges or 'no edges'})"

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
        found = set(self.children(name))
        for node in self.order:
            if node in found:
                found.update(self._children[node])
        return frozenset(found)

    @property
    def roots(self) -> tuple[str, ...]:
        """Factors with children that nothing causes."""
        return tuple(n for n in self.names if not self._parents[n] and self._children[n])

    @property
    def leaves(self) -> tuple[str, ...]:
        """Factors without children (an isolated factor counts as a leaf)."""
        return tuple(n for n in self.names if not self._children[n])

    def to_dict(self) -> dict[str, object]:
        """Primitive description; :meth:`from_dict` reads it back."""
        factors = {f.name: f.to_spec() for f in self.factors}
        return {"factors": factors, "edges": [list(edge) for edge in self.edges]}

    @classmethod
    def from_dict(cls, spec: object) -> Self:
        """Read ``{"factors": {name: {"kind", "range"}}, "edges": [[cause, effect], ...]}``.

        A categorical factor has ``categories``, a list of names, instead of a range; a skewed one
        has also the ``scale`` "log".
        """
        if not isinstance(spec, Mapping) or not isinstance(spec.get("factors"), Mapping):
            raise GraphError("A graph needs a mapping 'factors' of name to {kind, range}.")
        unknown = sorted(map(str, set(spec) - {"factors", "edges"}))
        if unknown:
            raise GraphError(f"Unknown graph key {unknown[0]!r:.100}: use 'factors' and 'edges'.")
        factors = [Factor.from_spec(name, described) for name, described in spec["factors"].items()]
        edges = spec["edges"] if given(spec.get("edges")) else []
        if not isinstance(edges, list | tuple) or any(
            not isinstance(e, list | tuple) or len(e) != 2 for e in edges
        ):
            raise GraphError("Graph 'edges' must be a list of pairs [cause, effect].")
        return cls(factors, edges)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a graph file, its texts as written; GraphError when it is missing or not YAML."""
        if not Path(path).is_file():
            raise GraphError(f"Graph file {path} does not exist: check the path.")
        try:
            return cls.from_dict(load_yaml(Path(path), load_written))
        except YamlError as error:
            raise GraphError(f"Graph file {path} is not valid YAML: {error}.") from None
