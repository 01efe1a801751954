"""Hints of Lightning and torch that are wrong for us: the list of what is not shown, and why."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HINTS = {
    "does not have many workers": "images lie in memory, on the card or in a cache file: a "
    "batch is one indexing, and worker processes would be slower",
    "has Tensor Cores": "CardSettings lets them train; tests and answers are exact on purpose",
    "using the WeightAveraging callback, but": "a test loads the averaged weights, which are the "
    "checkpoint's own, and has no average of its own to restore",
    "not created with WeightAveraging": "InitialWeights and weights files start an average anew",
    "Found current_model_state in the checkpoint": "it tells that resuming works",
    "exists and is not empty": "LastCheckpoint refuses another training's folder; its own is fine",
    "module(s) in eval mode at the start": "a first stage is frozen",
    "LeafSpec": "Lightning's own use of torch, nothing that a user can change",
    "try installing [lit": "an advertisement",
    "It is recommended to use `Trainer(devices=1": "metrics count every image by its row, once",
}
"""Part of the message, and why a user need not see it."""
LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")


@contextmanager
def without_hints() -> Iterator[None]:
    """Leave out :data:`HINTS`, in warnings and in the log; everything else is shown as before."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_shown)
    try:
        with warnings.catch_warnings():
            for hint in HINTS:
                warnings.filterwarnings("ignore", message=f"(?s).*{re.escape(hint)}")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(hint in message for hint in HINTS)
