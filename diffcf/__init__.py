"""diffcf: what would this image have looked like, had X been different?

``diffcf.load`` gives a trained model; see :mod:`diffcf.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffcf.api import Answer, Model, load, shipped

__all__ = ["Answer", "Model", "load", "shipped"]


def __getattr__(name: str) -> Any:
    # On demand: parts of diffcf are imported without all of it.
    if name in __all__:
        from diffcf import api

        return getattr(api, name)
    raise AttributeError(f"module 'diffcf' has no attribute {name!r}")
