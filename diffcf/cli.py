"""The command line: ``diffcf fit | validate | test | predict`` and our own commands.

The first four are LightningCLI over any data module that offers a ``graph``; the graph is handed to
the model, so that it is stated once. :data:`COMMANDS` are the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from data_modules.faces_folder import faces
from data_modules.tables import DataError
from diffcf.ablation import ablate
from diffcf.benchmark import BenchmarkError
from diffcf.benchmark.command import benchmark
from diffcf.checkpoints import CheckpointError
from diffcf.counterfactual_module import CounterfactualModule
from diffcf.data_report import data
from diffcf.evaluator.command import evaluator
from diffcf.export import export
from diffcf.fid_command import fid
from diffcf.graph import CausalGraph, GraphError
from diffcf.intervention import InterventionError
from diffcf.loading_speed import loading_speed
from diffcf.metrics.inception import FidError
from diffcf.protocol import ProtocolError
from diffcf.tables import ResultsError, table
from diffcf.tables.command import tables

__all__ = ["DiffcfCLI", "main"]

USER_ERRORS = (
    BenchmarkError,
    CheckpointError,
    DataError,
    FidError,
    FileExistsError,
    FileNotFoundError,
    FloatingPointError,
    GraphError,
    InterventionError,
    ProtocolError,
    ResultsError,
)
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "ablate": ablate,
    "benchmark": benchmark,
    "data": data,
    "evaluator": evaluator,
    "export": export,
    "faces": faces,
    "fid": fid,
    "loading-speed": loading_speed,
    "table": table,
    "tables": tables,
}


class DiffcfCLI(LightningCLI):
    """LightningCLI that gives the data's graph to the model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments(
            "data.graph",
            "model.init_args.graph",
            compute_fn=CausalGraph.to_dict,
            apply_on="instantiate",
        )

    def before_instantiate_classes(self) -> None:
        # Checkpoints hold tensors and text only, so nothing else need ever be unpickled.
        if self.subcommand is not None and self.config[self.subcommand].weights_only is None:
            self.config[self.subcommand].weights_only = True
        if self.subcommand == "test":
            # The callback prints a table; Lightning's own would bury it under hundreds of rows.
            self.config.test.verbose = False


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


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; errors of the user's input are one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if arguments and arguments[0] in COMMANDS:
            COMMANDS[arguments[0]](arguments[1:])
        else:
            cli(None if args is None else arguments)
    except USER_ERRORS as error:
        print(f"diffcf: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
