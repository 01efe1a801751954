"""Causal graphs that stand in the YAML of an experiment, read as a graph file would be.

``graph`` of a data module is a file, or the same mapping in place: ``{factors: …, edges: …}``, and
``known`` and ``forbidden`` edges for a graph that is learned.

Loaders of configs turn an unquoted ``yes`` or ``01`` into true or 1, so the names and categories of
such a graph are taken from the text itself, and handed on as arguments of :class:`CausalGraph`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import yaml

from diffcf.causal import GRAPH_KEYS, CausalGraph
from diffcf.io import GraphError, WrittenLoader, YamlError, check_keys


def with_graphs(loaded: object, text: str) -> object:
    """What a loader made of ``text``, with every graph in it as it is written there.

    Raises:
        GraphError: for a graph that is none.
    """
    if "factors" not in text or not isinstance(loaded, dict | list):
        return loaded
    return _replaced(loaded, yaml.compose(text, WrittenLoader))


def _replaced(loaded: Any, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode) and isinstance(loaded, list):
        return [_replaced(item, child) for item, child in zip(loaded, node.value, strict=True)]
    if not isinstance(node, yaml.MappingNode) or not isinstance(loaded, dict):
        return loaded
    children = dict(_children(node))
    if set(children) <= GRAPH_KEYS and isinstance(children.get("factors"), yaml.MappingNode):
        return _arguments(node)
    if str(loaded.get("class_path")).rpartition(".")[2] == CausalGraph.__name__:
        _check_texts(loaded.get("init_args"))
    return {k: _replaced(v, children[k]) if k in children else v for k, v in loaded.items()}


def _arguments(node: yaml.MappingNode) -> dict[str, Any]:
    """The graph's mapping as the class and its arguments."""
    try:
        for part in _mappings(node):
            check_keys(part)
    except YamlError as error:
        raise GraphError(f"The graph of this config is not valid YAML: {error}.") from None
    graph = CausalGraph.from_dict(_written(node))
    factors = [{**asdict(f), "categories": list(f.categories)} for f in graph.factors]
    arguments = {**graph.to_dict(), "factors": factors}
    return {"class_path": "diffcf.causal.CausalGraph", "init_args": arguments}


def _check_texts(arguments: object) -> None:
    """Raises GraphError where a graph given as a class has a name or category that is no text."""
    factors = arguments.get("factors") if isinstance(arguments, dict) else None
    for factor in factors if isinstance(factors, list) else []:
        if isinstance(factor, dict):
            for text in (factor.get("name"), *(factor.get("categories") or ())):
                if not isinstance(text, str):
                    raise GraphError(f"The graph of this config has {text!r:.100}: quote it.")


def _written(node: yaml.Node) -> Any:
    return WrittenLoader("").construct_document(node)


def _children(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _mappings(item)
