"""LightningCLI over any data module that offers a ``graph``.

The graph is handed to the model, so that it is stated once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import get_loader, set_loader
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from yaml import YAMLError

from diffcf.causal import CausalGraph
from diffcf.io import CheckpointError, present
from diffcf.methods import WEIGHTS_SUFFIX, CounterfactualModule, TrainedIO, read_checkpoint
from diffcf.training.provenance import run_config
from diffcf.training.tracking import WandbRecorder, settle, start_runs

_load_yaml = get_loader("yaml")


def _load_present(text: str) -> Any:
    return present(_load_yaml(text))


# Configs of earlier versions name classes and settings as they were called then.
set_loader("yaml", _load_present, (YAMLError,))


class DiffcfCLI(LightningCLI):
    """LightningCLI that gives the data's graph to the model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.graph",
            "model.init_args.graph",
            compute_fn=CausalGraph.to_dict,
            apply_on="instantiate",
        )
        parser.add_lightning_class_args(WandbRecorder, "wandb")

    def _parse_ckpt_path(self) -> None:
        """Refuse what is no checkpoint of ours in one sentence.

        Lightning's own would take hyper-parameters, class names among them, from the checkpoint
        over what the config says; ours describes itself elsewhere and decides nothing here.
        """
        path = self._checkpoint()
        if path and Path(path).suffix == WEIGHTS_SUFFIX and self.config.subcommand == "fit":
            raise CheckpointError(
                f"{path} holds weights and no state of a training: name a checkpoint to go on from."
            )
        if path and Path(path).suffix != WEIGHTS_SUFFIX and Path(path).is_file():
            checkpoint = read_checkpoint(path)
            if "pytorch-lightning_version" not in checkpoint:
                raise CheckpointError(
                    f"{path} holds no state of a training: name a checkpoint that `diffcf fit` "
                    "wrote."
                )

    def _checkpoint(self) -> str | None:
        """The path given as ``--ckpt_path``."""
        named = self.config.get("subcommand") and self.config[self.config.subcommand]
        return named.get("ckpt_path") if named else None

    def before_instantiate_classes(self) -> None:
        settle(self.config if self.subcommand is None else self.config[self.subcommand])
        # Checkpoints hold tensors and text only, so nothing else need ever be unpickled.
        if self.subcommand is not None and self.config[self.subcommand].weights_only is None:
            self.config[self.subcommand].weights_only = True
        if self.subcommand == "test":
            # The callback prints a table; Lightning's own would bury it under hundreds of rows.
            self.config.test.verbose = False

    def start(self) -> None:
        """Before data are prepared: what W&B lacks is said at once."""
        start_runs(self.trainer)
        # A strategy's own way, that of sharded checkpoints say, is left alone.
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = TrainedIO()

    before_validate = before_test = before_predict = start

    def before_fit(self) -> None:
        """Hands the description of the data to the model, whose checkpoints say it."""
        self.start()
        self.model.data_spec = (run_config(self.trainer) or {}).get("data", self.model.data_spec)


def cli(args: ArgsType = None, run: bool = True) -> DiffcfCLI:
    """Parse and, unless ``run`` is off, run."""
    return DiffcfCLI(
        CounterfactualModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        # A test writes beside its fit: the second config replaces the first.
        save_config_kwargs={"overwrite": True},
        args=args,
        run=run,
    )
