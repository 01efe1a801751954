"""The command line: ``diffcf fit | validate | test | predict`` and our own commands.

The first four are :mod:`diffcf.lightning_cli`; :data:`COMMANDS` are the others.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable, Sequence

from lightning.pytorch.utilities.exceptions import SIGTERMException

from data_modules.faces_folder import faces
from data_modules.tables import DataError
from diffcf.ablation import ablate
from diffcf.app.command import AppError, app
from diffcf.ask import counterfactual
from diffcf.bench.command import bench
from diffcf.benchmark import BenchmarkError
from diffcf.benchmark.command import benchmark
from diffcf.checkpoints import CheckpointError
from diffcf.data_report import data
from diffcf.evaluator.command import evaluator
from diffcf.export import export
from diffcf.fid_command import fid
from diffcf.graph import GraphError
from diffcf.graph_command import graph
from diffcf.intervention import InterventionError
from diffcf.lightning_cli import cli
from diffcf.loading_speed import loading_speed
from diffcf.metrics.inception import FidError
from diffcf.protocol import ProtocolError
from diffcf.sampling import SamplingError
from diffcf.ship import weights
from diffcf.tables import ResultsError, table
from diffcf.tables.command import tables
from diffcf.tracking import TrackingError
from diffcf.whole_file import OutputError

__all__ = ["cli", "main"]

USER_ERRORS = (
    AppError,
    BenchmarkError,
    CheckpointError,
    DataError,
    FidError,
    FileExistsError,
    FileNotFoundError,
    FloatingPointError,
    GraphError,
    InterventionError,
    OutputError,
    PermissionError,
    ProtocolError,
    ResultsError,
    SamplingError,
    TrackingError,
)
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
"""Of libraries that write on their own, such as loggers: the disk is full or read-only."""
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "ablate": ablate,
    "app": app,
    "bench": bench,
    "benchmark": benchmark,
    "counterfactual": counterfactual,
    "data": data,
    "evaluator": evaluator,
    "export": export,
    "faces": faces,
    "fid": fid,
    "graph": graph,
    "loading-speed": loading_speed,
    "table": table,
    "tables": tables,
    "weights": weights,
}


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; errors of the user's input are one line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if arguments and arguments[0] in COMMANDS:
            COMMANDS[arguments[0]](arguments[1:])
        else:
            cli(None if args is None else arguments)
    except SIGTERMException:
        # A SystemExit without a status: a training cut short would count as a whole one.
        return 128 + signal.SIGTERM
    except USER_ERRORS as error:
        return _told(error)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    # One line, whatever a file's name or a key in it holds.
    print(f"diffcf: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
