"""The command line: ``diffcf fit | validate | test | predict`` and our own commands.

What a command needs is imported when it runs, so that the others and ``--help`` answer at once.
"""

from __future__ import annotations

import difflib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from diffcf.io import DiffcfError

LIGHTNING = "lightning"
"""In place of ``module:function``: a command of LightningCLI (:mod:`diffcf.training.cli`)."""


class Command(NamedTuple):
    """Where it is (``module:function`` in this package), what it does, and how it is called."""

    place: str
    does: str
    example: str


GROUPS = {
    "Ask": {
        "counterfactual": Command(
            "counterfactual:counterfactual",
            "what images would have looked like",
            "counterfactual pendulum IMAGE --do light=1.2 --out answers",
        ),
        "sample": Command(
            "sample:sample",
            "draw new images, of the data or under an intervention",
            "sample pendulum --count 64 --do light=1.2 --out drawn",
        ),
        "app": Command("app:app", "ask in the browser", "app pendulum"),
        "graph": Command(
            "graph:graph",
            "show the causal graph and its mechanisms",
            "graph pendulum --out graph.svg",
        ),
    },
    "Train and test": {
        "fit": Command(
            LIGHTNING, "train a method", "fit --config experiments/pendulum.yaml --out runs/mine"
        ),
        "validate": Command(
            LIGHTNING,
            "measure it on the validation images",
            "validate --config experiments/flow.yaml --ckpt_path runs/mine/last.ckpt",
        ),
        "test": Command(
            LIGHTNING,
            "measure it on held-out images: table, metrics.json, pictures",
            "test --config experiments/pendulum.yaml --ckpt_path runs/mine/last.ckpt",
        ),
        "predict": Command(
            LIGHTNING,
            "read factors, or with an intervention write counterfactuals",
            "predict --config experiments/flow.yaml --ckpt_path runs/mine/last.ckpt",
        ),
        "evaluator": Command(
            "evaluator:evaluator",
            "train an independent reader of factors",
            "evaluator --config experiments/evaluators/pendulum.yaml --out runs/reader",
        ),
    },
    "Data": {
        "new": Command(
            "new_experiment.command:new",
            "start an experiment on your own images",
            "new mine.yaml --images data/mine/images --table data/mine/factors.csv",
        ),
        "data": Command(
            "data:data",
            "describe a dataset, before training on it",
            "data experiments/own_data.yaml",
        ),
        "export": Command(
            "export:export",
            "write a dataset as images, table and graph",
            "export experiments/pendulum.yaml data/mine",
        ),
        "augment": Command(
            "augment.command:augment",
            "extend a dataset by counterfactuals of its images",
            "augment pendulum experiments/pendulum.yaml data/more --times 2",
        ),
        "faces": Command(
            "faces:faces", "draw cartoon faces in CelebA's layout", "faces data/faces"
        ),
    },
    "Compare": {
        "benchmark": Command(
            "benchmark.command:benchmark",
            "train and test every method and seed of a grid",
            "benchmark experiments/benchmarks/pendulum.yaml",
        ),
        "score": Command(
            "score.command:score",
            "score any program's counterfactuals, or write the task it answers",
            "score task answers --out runs/scored",
        ),
        "audit": Command(
            "audit.command:audit",
            "what a factor does to the output of a classifier of yours",
            "audit pendulum my.py:network IMAGES --do light=1.2 --out runs/audit",
        ),
        "ablate": Command(
            "ablate:ablate",
            "compare ways to sample with one checkpoint",
            "ablate pendulum --config experiments/ablations/steps.yaml",
        ),
        "known-edges": Command(
            "known_edges:known_edges",
            "distance of a learned graph, by how much of it is known",
            "known-edges --config experiments/ablations/known_edges/flow.yaml",
        ),
        "fid": Command(
            "fid:fid",
            "FID, sFID and KID of two folders of images",
            "fid data/real runs/generated",
        ),
        "table": Command(
            "tables:table", "markdown from metrics.json files", "table runs/*/metrics.json"
        ),
        "tables": Command(
            "tables:tables",
            "every table and figure that compares methods",
            "tables --readme README.md docs/*.md",
        ),
        "bench": Command(
            "speed.command:bench",
            "measure speed, as ratios in one run",
            "bench experiments/pendulum.yaml --out runs/bench",
        ),
        "loading-speed": Command(
            "speed.pipeline:loading_speed", "measure how fast images are loaded", "loading-speed"
        ),
    },
    "Share": {
        "weights": Command(
            "weights:weights",
            "write or check weights to give away",
            "weights runs/mine/last.ckpt METRICS.json --out mine.safetensors",
        ),
        "onnx": Command(
            "onnx:onnx",
            "write the projector and a sampling step for onnxruntime",
            "onnx pendulum --out pendulum_onnx",
        ),
        "completion": Command(
            "completion:completion",
            "complete commands and options in your shell",
            "completion bash > ~/.local/share/bash-completion/completions/diffcf",
        ),
    },
}
"""Every command by name, in the groups of the help page."""
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
SYNONYMS = {
    "train": "fit",
    "evaluate": "test",
    "generate": "sample",
    "intervene": "counterfactual",
    "explore": "app",
    "version": "--version",
}
"""What people call them, for the suggestion that answers a word that is no command."""
USER_ERRORS = (
    DiffcfError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""The disk is full or read-only, as reported by libraries that write on their own (loggers)."""
SIGPIPE = 13  # which Windows does not have


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; errors of the user's input are one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help"):
        print(_help())
        return 0
    if first in ("-V", "--version"):
        return _version(arguments[1:])
    if first not in COMMANDS:
        print(_unknown(first), file=sys.stderr)
        return 2
    try:
        if (place := COMMANDS[first].place) == LIGHTNING:
            return _lightning(None if args is None else arguments)
        module, _, name = place.partition(":")
        getattr(import_module(f"diffcf.commands.{module}"), name)(arguments[1:])
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        if not _is_unread():
            raise
        return 128 + SIGPIPE
    except (DiffcfError, OSError) as error:
        if not isinstance(error, USER_ERRORS) and error.errno not in DISK_ERRORS:
            raise
        # One line, whatever a file's name or a key in it holds.
        print(f"diffcf: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is none of UTF-8"
        print(f"diffcf: A config or table is not a text file ({reason}).", file=sys.stderr)
        return 2


def _is_unread() -> bool:
    """Whether nobody reads the output any more, as after ``| head``; nothing more is written."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        # What is left in the buffer would fail once more, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _lightning(args: list[str] | None) -> int:
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from diffcf.training import cli

    try:
        cli(args)
    except SIGTERMException:
        # It is a SystemExit without a status: a training cut short would count as a whole one.
        return 128 + signal.SIGTERM
    return 0


def _version(arguments: Sequence[str]) -> int:
    from diffcf import io

    if set(arguments) - {"--verbose"}:
        print("diffcf: --version takes --verbose, and nothing else.", file=sys.stderr)
        return 2
    print(f"diffcf {io.version_of('diffcf')}")
    if arguments:
        for name, what in io.describe_machine().items():
            if name != "diffcf":
                print(f"{name} {what}")
    return 0


def _help() -> str:
    lines = [
        "usage: diffcf COMMAND [ARGUMENTS]\n",
        "What would this image have looked like, had X been different?",
    ]
    for title, group in GROUPS.items():
        lines.append(f"\n{title}")
        for name, command in group.items():
            lines += [f"  {name:<16}{command.does}", f"{'':<18}  diffcf {command.example}"]
    return "\n".join(
        [
            *lines,
            "\n`diffcf COMMAND --help` lists the arguments, `diffcf --version` says the version,",
            "with --verbose also those of what it runs on.",
        ]
    )


def _unknown(name: str) -> str:
    """The sentence for what is no command, with the nearest ones."""
    near = difflib.get_close_matches(name.lstrip("-").lower(), [*COMMANDS, *SYNONYMS])
    names = dict.fromkeys(SYNONYMS.get(found, found) for found in near)
    meant = f"did you mean {' or '.join(names)}? " if names else ""
    shown = " ".join(name.splitlines())
    return f"diffcf: there is no command '{shown:.50}': {meant}`diffcf --help` lists all of them."


if __name__ == "__main__":
    sys.exit(main())
