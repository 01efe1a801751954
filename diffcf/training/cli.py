"""The command line of ``diffcf fit | validate | test | predict``: LightningCLI, extended.

The graph is taken from the data module and linked to the model, so that a config states it once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import get_loader, set_loader
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from diffcf.causal import CausalGraph
from diffcf.io import check_writable, present
from diffcf.methods import CounterfactualModule, TrainedIO
from diffcf.training.callbacks.card import CardSettings, memory_errors
from diffcf.training.callbacks.running import LastCheckpoint
from diffcf.training.flags import checkpoint_path, settings_errors, settle_flags
from diffcf.training.folders import SavedConfig, choose_folders
from diffcf.training.hints import without_hints
from diffcf.training.pixels import settle_pixels
from diffcf.training.stored_stage import settle_first_stage
from diffcf.training.tracking import WandbRecorder, run_config, start_runs
from diffcf.training.written_graphs import with_graphs

_load_yaml = get_loader("yaml")
# Configs of earlier versions name classes and settings as they were called then.
set_loader("yaml", lambda text: present(with_graphs(_load_yaml(text), text)), (yaml.YAMLError,))


class DiffcfCLI(LightningCLI):
    """LightningCLI that links the data's graph to the model, and sets up W&B and checkpoints."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        args: ArgsType = options.get("args")
        words = sys.argv[1:] if args is None else args
        self._asked = words[0] if isinstance(words, list) and words else None
        super().__init__(*arguments, **options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for alone, since the parser of each takes time to build."""
        every = LightningCLI.subcommands()
        return {self._asked: every[self._asked]} if self._asked in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        source, target = "data.graph", "model.init_args.graph"
        parser.link_arguments(source, target, CausalGraph.to_dict, apply_on="instantiate")
        parser.add_lightning_class_args(WandbRecorder, "wandb")
        parser.add_lightning_class_args(CardSettings, "card")
        folder = (
            "Folder of the run: checkpoint, logs, results; trainer.default_root_dir if left out."
        )
        precision = (
            "auto: bf16-mixed where the device multiplies bfloat16 in hardware, else 32-true; null "
            "leaves it to trainer.precision."
        )
        parser.add_argument(
            "--precision", type=Literal["auto"] | None, default=None, help=precision
        )
        parser.add_argument("--out", type=Path | None, default=None, help=folder)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning's own would let a checkpoint, class names in it, override the config.

        :meth:`before_instantiate_classes` looks at the checkpoint.
        """

    def before_instantiate_classes(self) -> None:
        config = self.config if self.subcommand is None else self.config[self.subcommand]
        choose_folders(config)
        settle_flags(config, self.subcommand)
        if self.subcommand is None:
            settle_pixels(config)
            return
        if config.ckpt_path is None and self.subcommand != "fit":
            print(f"{self.subcommand} without --ckpt_path: the networks are untrained.", flush=True)
        if config.ckpt_path is not None:
            config.ckpt_path = str(checkpoint_path(config, self.subcommand))
        # Checkpoints hold tensors and text only, so nothing else need ever be unpickled.
        if config.weights_only is None:
            config.weights_only = True
        if self.subcommand == "test":
            # The callback prints a table; Lightning's own would bury it under hundreds of rows.
            config.verbose = False
        settle_pixels(config)
        settle_first_stage(config)

    def _set_seed(self) -> None:
        with settings_errors(building=True):
            super()._set_seed()

    def instantiate_classes(self) -> None:
        # The config is written out once, for the run's folder and for modules that save their
        # hyper-parameters: the parser checks all of it every time.
        parts = self.config if self.subcommand is None else self.config[self.subcommand]
        with settings_errors(building=True):
            text = self._parser(self.subcommand).dump(parts, skip_none=False)
            self.config_dump = yaml.safe_load(text)
            self.save_config_kwargs = {"text": text}
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with memory_errors(self.trainer):
            super()._run_subcommand(subcommand)

    def start(self) -> None:
        """Start W&B before data are prepared, so that a missing key is reported at once."""
        if self.trainer.is_global_zero:
            check_writable(Path(self.trainer.default_root_dir) / "last.ckpt")
        start_runs(self.trainer)
        # A strategy's own checkpoint writer, for sharded checkpoints for example, is kept.
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = TrainedIO()

    before_validate = before_test = before_predict = start

    def before_fit(self) -> None:
        """Give the model the description of its data, which its checkpoints keep."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                callback.check_free(self.trainer, self.config[self.subcommand].ckpt_path)
        self.start()
        self.model.data_spec = (run_config(self.trainer) or {}).get("data", self.model.data_spec)


def cli(args: ArgsType = None, run: bool = True) -> DiffcfCLI:
    """Parse ``args`` (default: the shell's) and run the subcommand, unless ``run`` is false."""
    with without_hints(), settings_errors():
        return DiffcfCLI(
            CounterfactualModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=SavedConfig,
            args=args,
            run=run,
        )
