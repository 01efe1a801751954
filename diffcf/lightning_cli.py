"""LightningCLI over any data module that offers a ``graph``.

The graph is handed to the model, so that it is stated once.
"""

from __future__ import annotations

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from diffcf.callbacks import WandbRecorder
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.graph import CausalGraph
from diffcf.tracking import settle, start_runs

__all__ = ["DiffcfCLI", "cli"]


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

    before_fit = before_validate = before_test = before_predict = start


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
