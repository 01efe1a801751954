"""Public names of the room; ``__init__.py`` loads them on demand."""

from .callbacks.counterfactual import (
    CounterfactualCallback as CounterfactualCallback,
)
from .callbacks.progress import (
    ProgressBar as ProgressBar,
)
from .callbacks.progress import (
    TrainingBudget as TrainingBudget,
)
from .callbacks.resuming import (
    LastCheckpoint as LastCheckpoint,
)
from .callbacks.resuming import (
    RandomState as RandomState,
)
from .callbacks.writer import (
    CounterfactualWriter as CounterfactualWriter,
)
from .cli import (
    DiffcfCLI as DiffcfCLI,
)
from .cli import (
    cli as cli,
)
from .datasets import (
    load_data as load_data,
)
from .datasets import (
    make_data as make_data,
)
from .provenance import (
    describe as describe,
)
from .provenance import (
    provenance as provenance,
)
from .tracking import (
    WandbRecorder as WandbRecorder,
)
