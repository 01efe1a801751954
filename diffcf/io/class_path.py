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
    """The class at ``path``, which must be a subclass of ``base``.

    Raises:
        ValueError: when there is no such class, it is another kind of thing, or its module is
            neither imported nor trusted.
    """
    module, _, name = present_name(path).rpartition(".")
    if not _trusted(module):
        package = module.partition(".")[0] or "its_package"
        raise ValueError(
            f"'{path}' lies in a module that is not ours, and importing it would run it (if you "
            f"trust it, import it first, or set {TRUST}={package})"
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


def _trusted(module: str) -> bool:
    if module in sys.modules:  # importing it again runs nothing
        return True
    trusted = {*OWN, *filter(None, map(str.strip, os.environ.get(TRUST, "").split(",")))}
    return module.partition(".")[0] in trusted
