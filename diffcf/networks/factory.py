"""Networks by name: built from a factory, recorded as primitive values.

A checkpoint must say which networks it holds without pickling any code, so every network is
described by ``{"class_path": ..., "init_args": {...}}`` with primitive values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from diffcf.causal import CausalGraph
from diffcf.io import DiffcfError, SettingsError, class_at, path_of

NetworkFactory = Callable[[CausalGraph], nn.Module]
"""A network class, or a partial of one that lacks the graph only; ``class_path`` in YAML."""

NetworkSpec = dict[str, Any]
LEAST = {"image_channels": 1, "patch": 1, "channels": 1, "blocks": 0, "condition": 1}
"""Least values of what our networks count, where they have such arguments."""


def network_spec(factory: NetworkFactory | NetworkSpec) -> NetworkSpec:
    """The description of a class or of a partial of one; a description is returned as it is.

    Raises:
        TypeError: when ``factory`` is neither.
    """
    if isinstance(factory, dict):
        return factory
    arguments: dict[str, object] = {}
    target: object = factory
    while isinstance(target, partial):
        arguments = {**target.keywords, **arguments}
        # jsonargparse hands over partial(instantiate, instantiator, cls, **arguments).
        target = next(filter(inspect.isclass, target.args), target.func)
    if not inspect.isclass(target):
        raise TypeError(f"A network is given by its class or a partial of it, got {factory!r}.")
    return {"class_path": path_of(target), "init_args": arguments}


def build_network(spec: NetworkSpec, graph: CausalGraph) -> Any:
    """The network (an ``nn.Module``; callers know its Protocol) that ``spec`` describes.

    Raises:
        ValueError: when the class cannot be found, is no network or does not take these arguments.
    """
    path, arguments = str(spec.get("class_path", "")), spec.get("init_args", {})
    if not isinstance(arguments, dict):
        raise SettingsError(f"init_args of network '{path}' are by name, not {arguments!r:.100}.")
    try:
        network_class = class_at(path, nn.Module)
    except ValueError as error:
        raise SettingsError(f"Network class {error}: name a network class.") from None
    for name in LEAST.keys() & arguments:
        value, low = arguments[name], LEAST[name]
        counts = value if isinstance(value, list) else [value]
        if not counts or any(isinstance(count, int) and count < low for count in counts):
            raise SettingsError(f"{name} of network '{path}' must be at least {low}, not {value}.")
    try:
        return network_class(graph, **arguments)
    except DiffcfError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise SettingsError(f"Network '{path}' does not take these arguments: {error}.") from None
