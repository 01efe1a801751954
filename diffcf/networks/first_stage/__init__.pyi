"""Public names of the room; ``__init__.py`` loads them on demand."""

from .convolutional import ConvAutoencoder as ConvAutoencoder
from .convolutional import reconstruction_losses as reconstruction_losses
from .interface import FILES as FILES
from .interface import FirstStage as FirstStage
from .interface import LatentSpace as LatentSpace
from .interface import without_files as without_files
from .pretrained import DiffusersAutoencoder as DiffusersAutoencoder
from .tiny import TinyAutoencoder as TinyAutoencoder
