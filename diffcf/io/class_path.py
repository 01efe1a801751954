"""Classes by dotted name, as YAML, checkpoints and weights files give them.

Importing a module runs it, so a file that came from elsewhere must not choose what is imported. A
class may lie in diffcf or data_modules, in a module that this program has imported already, or in
a package that the user trusts: ``DIFFCF_TRUST=my_networks diffcf counterfactual last.ckpt …``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import TypeVar

from diffcf.io.aliases import present_name

T = TypeVar("T")

TRUST = "DIFFCF_TRUST"
"""Environment variable: packages whose modules may be imported, separated by commas."""
OWN = ("diffcf", "data_modules")


def class_at(path: str, base: type[T]) -> type[T]:
    """The subclass of ``base`` at ``path``.

    Raises:
        ValueError: when there is none, or its module is neither imported nor trusted.
    """
    module, _, name = present_name(path).rpartition(".")
    package = module.partition(".")[0]
    trusted = (*OWN, *map(str.strip, os.environ.get(TRUST, "").split(",")))
    # Importing again what is imported already runs nothing.
    if not package or (module not in sys.modules and package not in trusted):
        raise ValueError(
            f"'{path}' lies in a module that is not ours, and importing it would run it (if you "
            f"trust it, import it first, or set {TRUST}={package or 'its_package'})"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"'{path}' cannot be imported: {error}") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ValueError(f"'{path}' is not a {path_of(base)}")
    return found


def path_of(kind: type) -> str:
    """The dotted name to write for a class: of the outermost room that offers it, or its file."""
    parts = kind.__module__.split(".")
    for depth in range(1 if parts[0] == "data_modules" else 2, len(parts)):
        package = ".".join(parts[:depth])
        if getattr(sys.modules.get(package), kind.__name__, None) is kind:
            return f"{package}.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"
