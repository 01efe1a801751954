"""Public names of the room; ``__init__.py`` loads them on demand."""

from .answer import AbductedImages as AbductedImages
from .answer import Answer as Answer
from .answer import BacktrackedAnswer as BacktrackedAnswer
from .loading import UNKNOWN as UNKNOWN
from .loading import load as load
from .model import Model as Model
