"""Files and folders that are written whole or not at all, whatever stops the writer.

What is unfinished lies in the same folder under a name that ends in ``.part``, and is renamed at
the end, so that a reader finds the old or the new. A killed writer leaves its ``.part``, which the
next writer replaces or, where several processes may write at once, removes after an hour.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from diffcf.io.errors import OutputError

RESULTS, SCORES = "metrics.json", "images.csv"
"""What a test writes into its folder: all its numbers, and the scores of each image."""
ABANDONED = 3600.0
"""Seconds without a write after which a shared ``.part`` is taken for that of a killed writer."""
REMEDY = "free some space, or name a place that can be written to"


@contextmanager
def whole_file(
    path: Path, durable: bool = True, shared: bool = False, remedy: str = REMEDY
) -> Iterator[Path]:
    """Where to write what becomes ``path`` when the block ends; nothing is left when it fails.

    Args:
        path: the file; missing folders are made.
        durable: wait until the bytes are on the disk, so that no power cut leaves an empty file.
        shared: other processes may write the same file at the same time; the last one counts.
        remedy: end of the error's sentence, what to do when the file cannot be written.

    Raises:
        OutputError: when the disk is full, the folder is read-only, or the name is a folder's.
    """
    with output_errors(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        if shared:
            _remove_abandoned(path.parent)
        unfinished = _unfinished(path, shared)
        try:
            yield unfinished
            if durable:
                with unfinished.open("r+b") as written:
                    os.fsync(written.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(path: Path, shared: bool = False) -> Iterator[Path]:
    """An empty folder that becomes ``path`` when the block ends; nothing is left when it fails.

    A folder that is there already is replaced; whether it may be is for the caller to check. Where
    other processes may write the same folder at the same time (``shared``), the first one counts,
    and only an empty folder is replaced.

    Raises:
        OutputError: when the disk is full, the place is read-only, or (shared) it is taken.
    """
    path = Path(os.path.abspath(path))
    unfinished = _unfinished(path, shared)
    with output_errors(path):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if shared:
                os.replace(unfinished, path)
            else:
                replace_folder(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def replace_folder(unfinished: Path, path: Path) -> None:
    """Rename a folder to ``path``; what is there already lies under ``.old`` for a moment."""
    old = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(unfinished, path)
    shutil.rmtree(old, ignore_errors=True)


def check_new(path: Path, option: str = "--out") -> None:
    """Before work of minutes: nothing is at ``path`` yet, and it can be written.

    Raises:
        OutputError: in one sentence that names ``option``, by which another place is named.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path} exists already: remove it, or name another place by {option}.")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Before work of minutes: OutputError when a file could not be written at ``path``."""
    with output_errors(path, missing=True):
        folder = Path(os.path.abspath(path)).parent
        while not folder.is_dir() and not os.path.lexists(folder):
            folder = folder.parent
        # Permissions, a read-only or full disk, a file in place of a folder: by trying.
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", buffering=0) as probe:
            probe.write(bytes(4096))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(record: Mapping[str, object], path: Path) -> None:
    """Write whole or not at all."""
    write_text(json.dumps(record, indent=2, default=str) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _unfinished(path: Path, shared: bool) -> Path:
    return path.with_name(f"{path.name}.{uuid4().hex}.part" if shared else f"{path.name}.part")


def _remove_abandoned(folder: Path) -> None:
    """Delete shared unfinished files that killed writers left."""
    for file in folder.glob(f"*.{'[0-9a-f]' * 32}.part"):
        with suppress(OSError):  # another process was faster, or it belongs to someone else
            if file.is_file() and time.time() - file.stat().st_mtime > ABANDONED:
                file.unlink()


@contextmanager
def output_errors(path: Path, remedy: str = REMEDY, missing: bool = False) -> Iterator[None]:
    """The system's errors as a sentence that names the file.

    A file that is ``missing`` may be one that the block reads, and is an error of its own.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not missing:
            raise
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(f"{path} cannot be written ({reason}): {remedy}.") from error


def public(value: Any) -> Any:
    """A record in which paths of this machine are their last parts: nobody else has its folders.

    >>> public({"root": "/home/me/faces", "sides": [64, 64]})
    {'root': 'faces', 'sides': [64, 64]}
    """
    if isinstance(value, dict):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list):
        return [public(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
