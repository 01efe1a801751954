"""The held-out images of the data that weights were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffcf.api import Model
from diffcf.data_report import load_data, make_data
from diffcf.graph import GraphError

__all__ = ["held_out"]


def held_out(model: Model, name: str | Path, count: int, config: Path | None = None) -> Any | None:
    """A data module of ours with ``count`` test images in memory, at most.

    Args:
        model: that was trained on it, or on its like.
        name: of the model, as :func:`diffcf.load` takes it.
        count: images of its test split to load, a seeded subset.
        config: YAML of an experiment or of a data module; None for what the weights say.

    Returns:
        None where the weights do not say what they were trained on.

    Raises:
        GraphError: when the data has other factors than the model.
        DataError, FileNotFoundError: when its files are not where they were.
    """
    if config is not None:
        module = load_data(config)
    else:
        spec = model.module.data_spec
        if spec is None:
            return None
        module = make_data(spec, f"The data of {name}")
    if module.graph.factors != model.graph.factors:
        raise GraphError(
            f"{type(module).__name__} has other factors than {name}: "
            f"{', '.join(module.graph.names)} instead of {', '.join(model.graph.names)}."
        )
    # Only what is shown is loaded. Which images are test images does not depend on these.
    kept = module.sizes["test"]
    module.batch_size = 1
    module.sizes = {"train": 1, "val": 1, "test": count if kept is None else min(kept, count)}
    module.prepare_data()
    module.setup()
    return module
