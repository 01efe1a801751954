"""One cell of a benchmark: ``diffcf fit``, then ``diffcf test``, in processes of their own.

A cell can be stopped at any moment, by ``kill -9`` too, and resumed:

- ``<results>.json`` is written last, whole or not at all; a cell that has one is done. Beside it,
  ``<results>.csv`` has the scores of each image.
- ``<run>/trained`` marks a finished training: only the test is left.
- ``<run>/last.ckpt`` is what an unfinished one resumes from, with what is left of its budget.
- ``<run>/.lock`` is held by the runner and the process it started. The system releases it when both
  have ended, so a training that outlives its runner keeps other runners out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import lock_descriptor

from diffcf.commands.benchmark.grid import GridCell
from diffcf.commands.benchmark.settings import Settings, read_yaml, replaced, training_part
from diffcf.io import RESULTS, SCORES, write_json, write_text

_OTHER_SETTINGS = ", though its settings were others: remove the file to measure anew"
_LAST_LINES = 8
_POLL = 0.2  # seconds between two looks at what a process wrote
# As in the Makefile: glibc giving memory back would count against a processor budget.
_ALLOCATOR = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), "2000000000")


@dataclass(frozen=True)
class Run:
    """One LightningCLI config, trained and measured in ``folder``, for which ``{run}`` stands.

    Its processes inherit the ``lock``, a file descriptor; progress lines begin with ``title``.
    """

    folder: Path
    settings: Settings
    lock: int
    threads: int
    title: str

    def train(self) -> None:
        """Train, resume training, or do nothing where it is finished.

        Raises:
            RunError: when training fails, or the folder holds one of other settings.
        """
        config, checkpoint = self.folder / "config.yaml", self.folder / "last.ckpt"
        settings = replaced(self.settings, "{run}", str(self.folder))
        if checkpoint.exists() and config.exists():
            before = read_yaml(config, "The settings of the run")
            if training_part(before) != training_part(settings):
                found = "a training with other settings (config.yaml)"
                raise RunError(f"{self.folder} holds {found}: remove the folder to train anew.")
        _write_yaml(settings, config)
        if not (self.folder / "trained").exists():
            resume = [f"--ckpt_path={checkpoint}"] if checkpoint.exists() else []
            self.stage("fit", config, *resume)
            (self.folder / "trained").touch()

    def measure(self, stage: str, out: Path, settings: Settings | None = None) -> Path:
        """``diffcf test`` or ``validate``, into ``out``, by the training's or other settings."""
        config = self.folder / "config.yaml"
        if settings is not None:
            config = out / "settings.yaml"
            _write_yaml(replaced(settings, "{run}", str(self.folder)), config)
        # What an earlier try left is not in the results: it is measured anew, in the same place.
        for name in (RESULTS, SCORES):
            metrics_file(stage, out).with_name(name).unlink(missing_ok=True)
        # With a logger, the folder would be the logger's.
        place = ("--trainer.logger=false", f"--trainer.default_root_dir={out}")
        self.stage(stage, config, f"--ckpt_path={self.folder / 'last.ckpt'}", *place)
        return metrics_file(stage, out)

    def stage(self, stage: str, config: Path, *options: str) -> None:
        """One ``diffcf`` command; its output goes to ``log.txt``."""
        resumed = ", from its last checkpoint" if stage == "fit" and options else ""
        print(f"{self.title}: {stage}{resumed}", flush=True)
        started = time.perf_counter()
        arguments = [stage, "--config", str(config), *options]
        run_process(arguments, self.folder / "log.txt", self.lock, self.threads)
        print(f"{self.title}: {stage} took {minutes(time.perf_counter() - started)}", flush=True)


def run_cell(cell: GridCell, threads: int, title: str) -> None:
    """Train and test what is not done yet, and write the results; RunError when a stage fails."""
    if _is_done(cell, title):
        return
    trained = cell.training or cell
    with claimed(trained.folder) as lock:
        if lock is None:
            print(f"{title}: another runner is at it, skipped ({trained.folder}/.lock)", flush=True)
        elif not _is_done(cell, title):  # by another runner, a moment ago
            run = Run(trained.folder, trained.settings, lock, threads, title)
            run.train()
            other = None if trained is cell else cell.settings
            metrics = run.measure("test", cell.folder / "test", other)
            record = json.loads(metrics.read_text(encoding="utf-8"))
            title_shown = {} if cell.method.title is None else {"title": cell.method.title}
            record["benchmark"] = {**cell.origin(), "settings": cell.settings, **title_shown}
            by_image = metrics.with_name(SCORES).read_text(encoding="utf-8")
            write_text(by_image, cell.results.with_suffix(".csv"))
            # Folders on this machine mean nothing elsewhere.
            for folder in (trained.folder, cell.folder):
                record = replaced(record, str(folder), "{run}")
            write_json(record, cell.results)
            print(f"{title}: {cell.results}", flush=True)


def _is_done(cell: GridCell, title: str) -> bool:
    """Whether the cell has results; if so, prints that it is skipped."""
    if cell.state != "done":
        return False
    try:
        settings = json.loads(cell.results.read_text(encoding="utf-8"))["benchmark"]["settings"]
    except (ValueError, KeyError, TypeError):
        settings = None
    other = "" if settings == cell.settings else _OTHER_SETTINGS
    print(f"{title}: done already, skipped{other} ({cell.results})", flush=True)
    return True


def metrics_file(stage: str, out: Path) -> Path:
    """Where the CounterfactualCallback leaves the metrics of ``test`` or ``validate``."""
    return out / "counterfactuals" / {"validate": "val"}.get(stage, stage) / RESULTS


def _write_yaml(settings: Settings, path: Path) -> None:
    write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), path)


class RunError(RuntimeError):
    """A stage of a run failed; the message ends with its last lines."""


@contextmanager
def claimed(folder: Path) -> Iterator[int | None]:
    """The folder's lock as a file descriptor, which child processes inherit; None if taken."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor if lock_descriptor(descriptor, blocking=False) else None
    finally:
        # Closing lets go, unless a child still holds it. (Unlocking would let go for the child.)
        os.close(descriptor)


def run_process(arguments: Sequence[str], log: Path, lock: int, threads: int) -> None:
    """``diffcf <arguments>`` in a fresh process, its output at the end of ``log``.

    On a terminal the output is shown as well. The process holds ``lock`` for as long as it lives,
    even where this one is killed. RunError, with its last lines, when it fails.
    """
    started = time.perf_counter()
    with log.open("ab") as sink:
        sink.write(f"\n$ diffcf {' '.join(arguments)}\n".encode())
        sink.flush()
        beginning = sink.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "diffcf", *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=_ALLOCATOR | os.environ | {"OMP_NUM_THREADS": str(threads)},
            pass_fds=(lock,) if os.name == "posix" else (),
        )
    if status := _wait(child, log, beginning):
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        how += f" after {minutes(time.perf_counter() - started)}"
        text = log.read_bytes()[beginning:].decode(errors="replace")
        last = [f"\n    {line.rstrip()}" for line in text.splitlines() if line.strip()]
        said = "".join(last[-_LAST_LINES:])
        raise RunError(f"{arguments[0]} {how}; all of it is in {log}:{said}")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _wait(child: subprocess.Popen[bytes], log: Path, beginning: int) -> int:
    """Wait for the process; on a terminal, show what it writes meanwhile."""
    try:
        if not sys.stdout.isatty():
            return child.wait()
        with log.open("rb") as written:
            written.seek(beginning)
            running = True
            while running:
                running = child.poll() is None
                sys.stdout.buffer.write(written.read())
                sys.stdout.flush()
                time.sleep(_POLL if running else 0)
        return child.wait()
    except KeyboardInterrupt:
        child.wait()  # Ctrl-C reached it as well, and it is saving its checkpoint
        raise
