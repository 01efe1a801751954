"""Weights & Biases: start runs without questions, give them folders, fill them with answers.

Nothing here does anything unless a WandbLogger is among the trainer's loggers, and by default none
is. ``docs/wandb.md`` says what is logged.
"""

from diffcf.tracking.folders import settle
from diffcf.tracking.starting import TrackingError, start_runs, wandb_loggers
from diffcf.tracking.tables import log_answers, log_strengths

__all__ = [
    "TrackingError",
    "log_answers",
    "log_strengths",
    "settle",
    "start_runs",
    "wandb_loggers",
]
