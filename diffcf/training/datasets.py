"""Data modules from their description: a YAML file, or what a checkpoint records of its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Protocol, runtime_checkable

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from diffcf.causal import CausalGraph
from diffcf.evaluation import EvaluationData
from diffcf.io import DataError, GraphError, YamlError, load_yaml
from diffcf.training.written_graphs import with_graphs

Batch = dict[str, Tensor]


@runtime_checkable
class FactorData(EvaluationData, Protocol):
    """What is used of a data module such as :class:`data_modules.base.FactorImageDataModule`."""

    graph: CausalGraph
    batch_size: int
    sizes: dict[str, int | None]
    available: dict[str, int]

    def prepare_data(self) -> None: ...
    def setup(self, stage: str | None = None) -> None: ...
    def train_dataloader(self) -> DataLoader[Batch]: ...
    def val_dataloader(self) -> DataLoader[Batch]: ...
    def test_dataloader(self) -> DataLoader[Batch]: ...


def load_data(path: Path, overrides: Sequence[str] = ()) -> FactorData:
    """The data module that a YAML file describes, alone or under ``data``.

    ``overrides`` are arguments as of ``diffcf fit``, such as ``--data.val_size=64``.

    Raises:
        DataError: when there is no such file.
        GraphError: when the file describes no data module with factors, with the reason.
    """
    return make_data(read_data(path), f"Config {path}", overrides)


def read_data(path: Path) -> object:
    """The description of a data module in a YAML file, alone or under ``data``.

    DataError when there is no such file, GraphError when it is no YAML.
    """
    if not path.is_file():
        raise DataError(f"Config {path} does not exist: name the YAML of a dataset.")
    try:
        spec = with_graphs(load_yaml(path), path.read_text(encoding="utf-8"))
    except YamlError as error:
        raise GraphError(f"Config {path} is not valid YAML: {error}.") from None
    return spec.get("data", spec) if isinstance(spec, dict) else spec


def make_data(spec: object, origin: str, overrides: Sequence[str] = ()) -> FactorData:
    """The data module of a description, ``{"class_path", "init_args"}``, with ``overrides``.

    Raises:
        GraphError: when it describes no data module with factors; ``origin`` names its source.
    """
    if not isinstance(spec, Mapping) or "class_path" not in spec:
        raise GraphError(f"{origin} has no data module: give 'data' with a class_path.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=LightningDataModule)
    try:
        # A copy: the parser puts objects into the mapping that it is given.
        parsed = parser.parse_object({"data": deepcopy(spec)})
        if overrides:
            parsed = parser.parse_args(list(overrides), namespace=parsed)
        module = parser.instantiate_classes(parsed).data
    except ArgumentError as error:
        raise GraphError(f"{origin} does not describe a data module: {error}") from None
    if not isinstance(module, FactorData):
        remedy = "build it on data_modules.base.FactorImageDataModule"
        raise GraphError(f"{type(module).__name__} offers no factors: {remedy}.")
    return module
