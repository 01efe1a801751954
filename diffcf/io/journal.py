"""Which images are answered: a line for each, written after its files, by every process in turn.

``answered-0.jsonl``, ``answered-1.jsonl`` … of the processes that answer together hold, of every
image, its name, the key of what was asked about, its files with their sizes and checksums, and its
row of factors. A line that a kill tore, or whose files are not as it says, counts as not written:
so files need not be flushed to the disk one by one, and a power cut costs no more than is lost.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import lock_descriptor


@dataclass(frozen=True)
class Answered:
    """One image, answered.

    Attributes:
        name: of the image, once in a folder.
        key: stands for what was asked about; with another key the image is answered anew.
        row: its entry in the record, as JSON holds it.
        files: that were written for it, relative to the folder.
    """

    name: str
    key: str
    row: object
    files: Sequence[str] = ()


@dataclass(frozen=True)
class _Line:
    """Where the line of an image stands."""

    key: str
    file: Path
    start: int


class Journal:
    """The lines of all processes, and the file that this one writes.

    Args:
        place: the folder of the lines.
        answers: the folder of the images' files.
        process: number of this process.
    """

    def __init__(self, place: Path, answers: Path, process: int = 0) -> None:
        self.place, self.answers = place, answers
        self.own = place / f"answered-{process}.jsonl"
        self._descriptor: int | None = None
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        """How many images are answered, as far as this process knows."""
        return len(self._lines)

    def key(self, name: str) -> str | None:
        """The key by which an image is answered; None where it is not."""
        return None if name not in self._lines else self._lines[name].key

    @property
    def names(self) -> list[str]:
        """Of the images that are answered."""
        return list(self._lines)

    @property
    def is_empty(self) -> bool:
        """Whether no process wrote a line."""
        return not any(file.stat().st_size for file in self._files())

    def find(self, keys: dict[str, str] | None = None, check: bool = True) -> set[str]:
        """Read all lines again; returns the files of the images that are answered.

        Args:
            keys: of the images that are asked about; lines of others do not count. None: all count.
            check: whether the images' files are compared with their checksums.
        """
        self._lines, kept = {}, dict[str, list[str]]()
        for file in self._files():
            start = 0
            with file.open("rb") as lines:
                for line in lines:
                    said = _parsed(line)
                    counts = said and (keys is None or keys.get(said["name"]) == said["key"])
                    if said and counts and (not check or self._are_whole(said["files"])):
                        self._lines[said["name"]] = _Line(said["key"], file, start)
                        kept[said["name"]] = list(said["files"])
                    start += len(line)
        return {name for names in kept.values() for name in names}

    def open(self) -> bool:
        """Begin to write, after the last whole line; False where another process is at it."""
        self._descriptor = os.open(self.own, os.O_RDWR | os.O_CREAT, 0o666)
        if not lock_descriptor(self._descriptor, blocking=False):
            self.close()
            return False
        os.ftruncate(self._descriptor, self.own.read_bytes().rfind(b"\n") + 1)
        return True

    def append(self, answered: Iterable[Answered]) -> None:
        """Note images whose files are written; OSError, and nothing noted, on a full disk."""
        assert self._descriptor is not None, "open it first"
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        lines, content = dict[str, _Line](), b""
        for image in answered:
            lines[image.name] = _Line(image.key, self.own, start + len(content))
            content += self._line(image)
        try:
            rest = content
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, start)
            raise
        self._lines |= lines

    def rows(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Name and row of the images ``names``, read one by one."""
        with ExitStack() as stack:
            files: dict[Path, BinaryIO] = {}
            for name in names:
                line = self._lines[name]
                if line.file not in files:
                    files[line.file] = stack.enter_context(line.file.open("rb"))
                files[line.file].seek(line.start)
                yield name, json.loads(files[line.file].readline())["row"]

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _files(self) -> list[Path]:
        return sorted(self.place.glob("answered-*.jsonl"))

    def _line(self, image: Answered) -> bytes:
        files = {name: _checksum(self.answers / name) for name in image.files}
        line = {"name": image.name, "key": image.key, "files": files, "row": image.row}
        return json.dumps(line, default=str).encode() + b"\n"

    def _are_whole(self, files: dict[str, list[int]]) -> bool:
        try:
            return all(_checksum(self.answers / name) == said for name, said in files.items())
        except OSError:
            return False


def _parsed(line: bytes) -> dict[str, Any] | None:
    """What a line says; None for one that was torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and {"name", "key", "files", "row"} <= set(said) else None


def _checksum(file: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    content = file.read_bytes()
    return [len(content), zlib.crc32(content)]
