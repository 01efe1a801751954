"""A folder that answers about many images are written into, and that a killed run goes on with.

Until it is whole it lies beside its place, under a name that ends in ``.part``, and holds

- ``question.json``, what is asked: answers to another question are never mixed with these;
- ``answers``, the files as they will lie in the finished folder;
- the lines of :mod:`diffcf.io.journal`, which say what is answered;
- ``lock``, which the run at work holds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import lock_descriptor

from diffcf.io.errors import OutputError
from diffcf.io.files import output_errors, replace_folder, write_json
from diffcf.io.journal import Answered, Journal

LOCK, QUESTION = "lock", "question.json"
TRIES = 20  # where the run before removes its folder at this very moment


class AnswerFolder:
    """The unfinished folder of answers that becomes ``path``.

    One process claims and opens it, then each other that writes into it opens it; at the end each
    closes it, after one has finished it. As a context manager it is claimed, opened and closed.

    Attributes:
        folder: where files of answers are to be written.

    Args:
        path: the folder, once it is finished.
        question: what is asked, as JSON holds it.
        keys: by the name of each image that is asked about, what stands for its content; answers
            about others, or other content, are removed. None where that is not known beforehand.
        overwrite: whether answers to another question may be thrown away, and a folder replaced.
        remedy: how a user has them thrown away, for the error's sentence.
        process: number of this process among those that write the folder together.
    """

    def __init__(
        self,
        path: Path,
        question: Mapping[str, object],
        keys: dict[str, str] | None = None,
        overwrite: bool = False,
        remedy: str = "remove it",
        process: int = 0,
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self.part = self.path.with_name(f"{self.path.name}.part")
        self.folder = self.part / "answers"
        self.question = json.loads(json.dumps(question, default=str))
        self.keys, self.overwrite, self.remedy = keys, overwrite, remedy
        self._journal = Journal(self.part, self.folder, process)
        self._lock: int | None = None

    def claim(self) -> None:
        """Take the folder for this run.

        Raises:
            OutputError: when another run is at it, it holds answers to another question, or it
                cannot be written.
        """
        with output_errors(self.path):
            self._lock = _locked(self.part)
            if self._lock is None:
                raise self._taken()
            try:
                self._check_question()
                self.folder.mkdir(exist_ok=True)
                write_json(self.question, self.part / QUESTION)
            except BaseException:
                self.close()
                raise

    def open(self) -> None:
        """Find what is answered, and begin to note what is; OutputError as of :meth:`claim`."""
        if not self.folder.is_dir():
            raise OutputError(
                f"{self.part} is on another machine alone: name a folder that all machines share."
            )
        with output_errors(self.path):
            files = self._journal.find(self.keys)
            if self._lock is not None:
                self._remove_others(files)
            if not self._journal.open():  # by a process of a run whose first one died
                raise self._taken()

    def __len__(self) -> int:
        """How many images are answered, as far as this process knows."""
        return len(self._journal)

    def has(self, name: str, key: str) -> bool:
        """Whether an image of this content is answered."""
        return self._journal.key(name) == key

    def note(self, answered: Iterable[Answered]) -> None:
        """Note images whose files are written, in one thread at a time.

        Raises:
            OutputError: when the disk is full; none of them is noted then.
        """
        with output_errors(self.path):
            self._journal.append(answered)

    def join(self) -> int:
        """How many images all processes have answered; :meth:`rows` then knows them all."""
        self._journal.find(self.keys, check=False)
        return len(self)

    @property
    def names(self) -> list[str]:
        """Of the images that are answered, in no order."""
        return self._journal.names

    def rows(self, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Name and row of the images ``names``, read one by one."""
        return self._journal.rows(names)

    def finish(self) -> None:
        """Make it the folder at ``path``; with ``overwrite`` one that is there is replaced."""
        self._journal.close()
        with output_errors(self.path):
            (replace_folder if self.overwrite else os.replace)(self.folder, self.path)
        self._remove()

    def close(self) -> None:
        """Let go. What is answered stays for the next run; where nothing is, nothing stays."""
        self._journal.close()
        if self._lock is not None and self._journal.is_empty:
            self._remove()
        self._release()

    def _taken(self) -> OutputError:
        return OutputError(
            f"Another run is writing {self.path}: wait for it, or name another folder."
        )

    def _check_question(self) -> None:
        """Remove what is of no use; OutputError for answers to another question."""
        try:
            before = json.loads((self.part / QUESTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if before == self.question:
            return
        if isinstance(before, dict) and not self._journal.is_empty and not self.overwrite:
            names = [*self.question, *(name for name in before if name not in self.question)]
            other = [name for name in names if before.get(name) != self.question.get(name)]
            raise OutputError(
                f"{self.part} holds answers to another question (another {', '.join(other)}): ask "
                f"that again to go on with them, or {self.remedy} to start anew."
            )
        self._clear()

    def _remove_others(self, kept: set[str]) -> None:
        """Delete files of answers that do not count: torn ones, and those nobody asks for now."""
        for file in self.folder.rglob("*"):
            if file.is_file() and file.relative_to(self.folder).as_posix() not in kept:
                file.unlink()

    def _clear(self) -> None:
        for child in self.part.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
            elif child.name != LOCK:
                child.unlink()

    def _remove(self) -> None:
        """The lock goes last, so that no other run is at work in the folder before."""
        with suppress(OSError):
            self._clear()
            (self.part / LOCK).unlink()
            self.part.rmdir()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> AnswerFolder:
        self.claim()
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _locked(folder: Path) -> int | None:
    """The folder's lock, as a descriptor to close; None where another run holds it."""
    for _ in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        if not lock_descriptor(descriptor, blocking=False):
            os.close(descriptor)
            return None
        # It may have been removed between opening and locking; then it keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK)):
                return descriptor
        os.close(descriptor)
    return None
