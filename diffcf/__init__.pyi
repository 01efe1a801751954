"""Public names of the package; ``__init__.py`` loads them on demand."""

from .api import (
    Answer as Answer,
)
from .api import (
    Model as Model,
)
from .api import (
    load as load,
)
from .methods import Draws as Draws
from .methods import shipped as shipped
