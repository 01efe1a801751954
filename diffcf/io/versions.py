"""Versions of packages, without importing them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("diffcf", "torch", "lightning", "torchmetrics", "zuko", "jsonargparse")
UNKNOWN = "unknown"
"""What is recorded of where results come from when the machine does not tell."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter; never an error."""
    return {"python": platform.python_version(), **{n: version_of(n) for n in _PACKAGES}}


def version_of(package: str) -> str:
    """The version of an installed package; ``UNKNOWN`` without metadata, as in a bare checkout."""
    try:
        # A damaged installation has metadata without a version.
        return version(package) or UNKNOWN
    except (PackageNotFoundError, KeyError, OSError, ValueError):
        return UNKNOWN
