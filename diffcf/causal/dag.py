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

import yaml

from diffcf.causal.description import given
from diffcf.causal.factor import Factor
from diffcf.io import GraphError, YamlError, load_written, load_yaml

MOST = 500  # factors: masks of edges take the square of it
GRAPH_KEYS = frozenset({"factors", "edges", "known", "forbidden"})
"""What a graph's description may hold."""
Edge = tuple[str, str]
"""Cause and effect, by name."""


class Dag:
    """A directed acyclic graph over named factors.

    Args:
        factors: the factors, in the order of the factor tensor's columns.
        edges: pairs ``(cause, effect)`` of factor names.
        known: edges that stay where a graph is learned; they are ``edges`` also if not listed
            there.
        forbidden: pairs that are never an edge, learned or not.

    Attributes:
        order: names of the factors, causes before their effects.

    Raises:
        GraphError: for duplicate or unknown names, self-loops, duplicate edges, cycles, and a
            forbidden edge that is known or among ``edges``.
    """

    def __init__(
        self,
        factors: Sequence[Factor],
        edges: Sequence[Sequence[str]] = (),
        known: Sequence[Sequence[str]] = (),
        forbidden: Sequence[Sequence[str]] = (),
    ) -> None:
        self.factors = tuple(factors)
        self.names = tuple(f.name for f in self.factors)
        self._column = {name: k for k, name in enumerate(self.names)}
        self._check_names()
        listed = self._pairs(edges, "Edge")
        self.known = self._pairs(known, "Known edge")
        self.forbidden = self._pairs(forbidden, "Forbidden edge")
        self.edges = (*listed, *(edge for edge in self.known if edge not in listed))
        self._check_forbidden()
        _ordered(self.names, self.known, "The known edges close")
        self.order = _ordered(self.names, self.edges, "The graph has")
        self._parents, self._children = _neighbours(self.names, self.edges)

    def _pairs(self, edges: Sequence[Sequence[str]], what: str) -> tuple[Edge, ...]:
        """Edges as pairs; GraphError for those that name no two factors, or are listed twice."""
        pairs = tuple((str(cause), str(effect)) for cause, effect in edges)
        for (cause, effect), count in Counter(pairs).items():
            edge = f"{what} {cause:.100} → {effect:.100}"
            for name in (cause, effect):
                if name not in self._column:
                    known = f"the factors are {', '.join(self.names)}"
                    raise GraphError(f"{edge} names the unknown factor '{name:.100}': {known}.")
            if cause == effect:
                raise GraphError(f"Factor '{cause}' cannot cause itself: remove that edge.")
            if count > 1:
                raise GraphError(f"{edge} is declared twice: keep one.")
        return pairs

    def _check_forbidden(self) -> None:
        for edge in self.edges:
            if edge in self.forbidden:
                what = "known" if edge in self.known else "an edge of the graph"
                raise GraphError(
                    f"Edge {' → '.join(edge)} is both {what} and forbidden: remove one of the two."
                )

    def _check_names(self) -> None:
        if not self.factors:
            raise GraphError("The graph has no factors: name at least one.")
        if len(self.factors) > MOST:
            raise GraphError(f"The graph has {len(self.factors)} factors: {MOST} are the most.")
        for name, count in Counter(self.names).items():
            if count > 1:
                raise GraphError(f"Factor '{name}' is declared twice: give each its own name.")

    def __len__(self) -> int:
        return len(self.factors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dag):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.factors, *map(frozenset, (self.edges, self.known, self.forbidden))

    def __repr__(self) -> str:
        parts = [", ".join(self.names), _text(self.edges) or "no edges"]
        parts += [f"known {_text(self.known)}"] if self.known else []
        parts += [f"forbidden {_text(self.forbidden)}"] if self.forbidden else []
        return f"{type(self).__name__}({'; '.join(parts)})"

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
        spec: dict[str, object] = {"factors": {f.name: f.to_spec() for f in self.factors}}
        spec["edges"] = [list(edge) for edge in self.edges]
        for key, edges in (("known", self.known), ("forbidden", self.forbidden)):
            if edges:
                spec[key] = [list(edge) for edge in edges]
        return spec

    def to_yaml(self) -> str:
        """The text of a graph file; :meth:`from_yaml` reads it back."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None))

    @classmethod
    def from_dict(cls, spec: object) -> Self:
        """Read ``{"factors": {name: {"kind", "range"}}, "edges": [[cause, effect], ...]}``.

        A categorical factor has ``categories``, a list of names, instead of a range; a skewed one
        has also the ``scale`` "log". ``known`` and ``forbidden`` are lists as ``edges`` is.
        """
        if not isinstance(spec, Mapping) or not isinstance(spec.get("factors"), Mapping):
            raise GraphError("A graph needs a mapping 'factors' of name to {kind, range}.")
        if unknown := sorted(map(str, set(spec) - GRAPH_KEYS)):
            raise GraphError(
                f"Unknown graph key {unknown[0]!r:.100}: use 'factors', 'edges', 'known' and "
                "'forbidden'."
            )
        factors = [Factor.from_spec(name, described) for name, described in spec["factors"].items()]
        return cls(factors, *(_listed(spec, key) for key in ("edges", "known", "forbidden")))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a graph file, its texts as written; GraphError when it is missing or not YAML."""
        if not Path(path).is_file():
            raise GraphError(f"Graph file {path} does not exist: check the path.")
        try:
            return cls.from_dict(load_yaml(Path(path), load_written))
        except YamlError as error:
            raise GraphError(f"Graph file {path} is not valid YAML: {error}.") from None


def _listed(spec: Mapping[str, object], key: str) -> list[Sequence[str]]:
    edges = spec[key] if given(spec.get(key)) else []
    if not isinstance(edges, list | tuple) or any(
        not isinstance(edge, list | tuple) or len(edge) != 2 for edge in edges
    ):
        raise GraphError(f"Graph '{key}' must be a list of pairs [cause, effect].")
    return list(edges)


Neighbours = dict[str, tuple[str, ...]]


def _neighbours(names: Sequence[str], edges: Sequence[Edge]) -> tuple[Neighbours, Neighbours]:
    """Parents and children of every name."""
    parents: Neighbours = dict.fromkeys(names, ())
    children = dict(parents)
    for cause, effect in edges:
        parents[effect] += (cause,)
        children[cause] += (effect,)
    return parents, children


def _ordered(names: Sequence[str], edges: Sequence[Edge], closed_by: str) -> tuple[str, ...]:
    """The names, causes first; GraphError for a cycle."""
    try:
        return tuple(TopologicalSorter(_neighbours(names, edges)[0]).static_order())
    except CycleError as error:
        cycle = " → ".join(error.args[1])
        raise GraphError(f"{closed_by} a cycle, {cycle}: remove one of its edges.") from None


def _text(edges: Sequence[Edge]) -> str:
    return ", ".join(f"{cause} → {effect}" for cause, effect in edges)
