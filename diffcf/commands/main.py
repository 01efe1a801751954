"""The command line: ``diffcf fit | validate | test | predict`` and our own commands.

What a command needs is imported when it runs, so that the others and ``--help`` answer at once.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from diffcf.io import DiffcfError

LIGHTNING = {
    "fit": "train a method: --config experiments/pendulum.yaml",
    "validate": "measure it on the validation images",
    "test": "measure it on the held-out images: table, metrics.json, pictures",
    "predict": "read factors, or with an intervention write counterfactuals",
}
"""Commands of LightningCLI (:mod:`diffcf.training.cli`), with what they do."""
COMMANDS = {
    "counterfactual": ("counterfactual:counterfactual", "ask what images would have looked like"),
    "app": ("app:app", "ask in the browser"),
    "graph": ("graph:graph", "draw the causal graph and its mechanisms"),
    "data": ("data:data", "describe a dataset, before training on it"),
    "export": ("export:export", "write a dataset as images, table and graph"),
    "faces": ("faces:faces", "draw cartoon faces in CelebA's layout"),
    "evaluator": ("evaluator:evaluator", "train an independent reader of factors"),
    "fid": ("fid:fid", "FID, sFID and KID of two folders of images"),
    "ablate": ("ablate:ablate", "compare ways to sample with one checkpoint"),
    "benchmark": ("benchmark.command:benchmark", "train and test every method and seed of a grid"),
    "table": ("tables:table", "markdown from metrics.json files"),
    "tables": ("tables:tables", "every table and figure that compares methods"),
    "weights": ("weights:weights", "write or check weights to give away"),
    "bench": ("speed.command:bench", "measure speed, as ratios in one run"),
    "loading-speed": ("speed.pipeline:loading_speed", "measure how fast images are loaded"),
}
"""Our own: ``module:function`` in this package, with what they do."""
USER_ERRORS = (DiffcfError, FileExistsError, FileNotFoundError, PermissionError)
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""The disk is full or read-only, as reported by libraries that write on their own (loggers)."""


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; errors of the user's input are one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments in (["-h"], ["--help"]):
        print(_help())
        return 0
    try:
        if arguments[0] in COMMANDS:
            module, _, name = COMMANDS[arguments[0]][0].partition(":")
            getattr(import_module(f"diffcf.commands.{module}"), name)(arguments[1:])
            return 0
        return _lightning(None if args is None else arguments)
    except (DiffcfError, OSError) as error:
        if not isinstance(error, USER_ERRORS) and error.errno not in DISK_ERRORS:
            raise
        # One line, whatever a file's name or a key in it holds.
        print(f"diffcf: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2


def _lightning(args: list[str] | None) -> int:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from diffcf.training import cli

    try:
        cli(args)
    except SIGTERMException:
        # It is a SystemExit without a status: a training cut short would count as a whole one.
        return 128 + signal.SIGTERM
    return 0


def _help() -> str:
    commands = LIGHTNING | {name: text for name, (_, text) in COMMANDS.items()}
    return "\n".join(
        [
            "usage: diffcf COMMAND [ARGUMENTS]\n",
            "What would this image have looked like, had X been different?\n",
            *(f"  {name:<16}{text}" for name, text in commands.items()),
            "\n`diffcf COMMAND --help` lists a command's arguments.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
