"""Lightning callbacks: measuring counterfactuals, checkpoints, and resuming exactly."""

from diffcf.callbacks.checkpoint import LastCheckpoint
from diffcf.callbacks.counterfactual import CounterfactualCallback
from diffcf.callbacks.random_state import RandomState

__all__ = ["CounterfactualCallback", "LastCheckpoint", "RandomState"]
