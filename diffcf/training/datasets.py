"""The data module that a YAML file, or what a checkpoint says of its data, describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule

from diffcf.io import DataError, GraphError, YamlError, load_yaml


def load_data(path: Path) -> Any:
    """The data module that a YAML file describes.

    Raises:
        FileNotFoundError: when there is no such file.
        GraphError: when the file describes no data module of ours, with the reason.
    """
    if not path.is_file():
        raise DataError(f"Config {path} does not exist: name the YAML of a dataset.")
    try:
        spec = load_yaml(path)
    except YamlError as error:
        raise GraphError(f"Config {path} is not valid YAML: {error}.") from None
    spec = spec.get("data", spec) if isinstance(spec, dict) else spec
    return make_data(spec, f"Config {path}")


def make_data(spec: Any, origin: str) -> Any:
    """The data module of a description, ``{"class_path", "init_args"}``.

    Raises:
        GraphError: when it describes no data module of ours; ``origin`` says where it stands.
    """
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise GraphError(f"{origin} has no data module: give 'data' with a class_path.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=LightningDataModule)
    try:
        module = parser.instantiate_classes(parser.parse_object({"data": spec})).data
    except ArgumentError as error:
        raise GraphError(f"{origin} does not describe a data module: {error}") from None
    if not hasattr(module, "factors_of"):
        raise GraphError(
            f"{type(module).__name__} offers no factors: build it on "
            "data_modules.base.FactorImageDataModule."
        )
    return module
