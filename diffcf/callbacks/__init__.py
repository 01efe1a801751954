"""Lightning callbacks: measuring counterfactuals, checkpoints, resuming exactly, recording runs."""

from diffcf.callbacks.budget import TrainingBudget
from diffcf.callbacks.checkpoint import LastCheckpoint
from diffcf.callbacks.counterfactual import CounterfactualCallback
from diffcf.callbacks.progress import ProgressBar
from diffcf.callbacks.random_state import RandomState
from diffcf.callbacks.wandb_recorder import WandbRecorder
from diffcf.callbacks.writer import CounterfactualWriter

__all__ = [
    "CounterfactualCallback",
    "CounterfactualWriter",
    "LastCheckpoint",
    "ProgressBar",
    "RandomState",
    "TrainingBudget",
    "WandbRecorder",
]
