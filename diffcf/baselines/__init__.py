"""Methods to compare with, each behind the interface of :mod:`diffcf.method`."""

from diffcf.baselines.reference import ChangeEverything, DoNothing, ExactMethod

__all__ = ["ChangeEverything", "DoNothing", "ExactMethod"]
