"""A class by its dotted name, as YAML, checkpoints and weights files give it."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

__all__ = ["class_at"]


def class_at(path: str, base: type) -> Any:
    """The class at ``path``, which must be a subclass of ``base``.

    Raises:
        ValueError: when there is no such class, or it is another kind of thing.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be imported: {error}") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ValueError(f"'{path}' is not a {base.__module__}.{base.__qualname__}")
    return found
