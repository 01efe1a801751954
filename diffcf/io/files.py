"""Files and folders that are written whole or not at all, whatever stops the writer.

What is unfinished lies beside its place, under the same name with ``.part`` at the end, and is
renamed at the end: a reader finds the old or the new, and a killed writer leaves one ``.part``,
which the next one replaces.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcf.io.errors import OutputError


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Where to write what becomes ``path`` when the block ends; nothing is left when it fails.

    Args:
        path: the file; missing folders are made.
        durable: wait until the bytes are on the disk, so that a power cut cannot leave the new
            name with nothing behind it.

    Raises:
        OutputError: when the disk is full, the folder is read-only, or the name is a folder's.
    """
    unfinished = path.with_name(path.name + ".part")
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that becomes ``path`` when the block ends; nothing is left when it fails.

    A folder that is there already is replaced; whether it may be is for the caller to ask.

    Raises:
        OutputError: when the disk is full or the place is read-only.
    """
    path = Path(os.path.abspath(path))
    unfinished, old = (path.with_name(path.name + end) for end in (".part", ".old"))
    with _told(path):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            os.replace(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The system's errors as a sentence that names the file."""
    try:
        yield
    except (OutputError, FileNotFoundError):
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"{path} cannot be written ({reason}): free some space, or name a place that can be "
            "written to."
        ) from error


def write_json(record: Mapping[str, Any], path: Path) -> None:
    """Write whole or not at all."""
    write_text(json.dumps(record, indent=2, default=str) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
