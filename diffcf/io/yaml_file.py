"""YAML files that anyone may have written: small, not deep, no key twice, no laughing anchors.

PyYAML's safe loader makes plain values only, but it nests its calls as deep as the text does, takes
the last of two equal keys without a word, and lets a few lines of anchors stand for a billion
values. Events are cheap, so a text is looked through before it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from diffcf.io.aliases import present

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 50_000
MAX_LETTERS = 4_000  # of one number, name or text


class YamlError(ValueError):
    """The text is no YAML, or more than a description needs; the message is part of a sentence."""


def load_yaml(path: Path, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """What a file holds.

    Args:
        path: the file, in UTF-8.
        load: from text to values; it must make plain ones only.

    Raises:
        YamlError: in one line, for whatever is wrong with the text.
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise YamlError(f"it has more than {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8")
        _look_through(text)
        return present(load(text))
    except YamlError:
        raise
    except Exception as error:  # dates, numbers and tags fail in ways of their own
        raise YamlError(" ".join(str(error).split()) or type(error).__name__) from None


def _look_through(text: str) -> None:
    """YamlError for a text that is too much, or has a key twice."""
    look = _Look()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        look.at(event)


class _Look:
    """What has been seen of a text so far.

    Attributes:
        open: for every mapping or list that has begun: its anchor, how many values were before it,
            and for a mapping its keys so far (else None) and whether a key comes next.
        anchored: values that stand behind each finished anchor.
    """

    def __init__(self) -> None:
        self.values = 0
        self.open: list[list[Any]] = []
        self.anchored: dict[str, int] = {}

    def at(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchored:
                raise YamlError(f"*{event.anchor} stands for itself, or for nothing")
            self._count(self.anchored[event.anchor])
            self._in_mapping(None)
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_LETTERS:
                raise YamlError(f"a value has more than {MAX_LETTERS} letters")
            self._count(1)
            self._in_mapping(event.value)
            if event.anchor:
                self.anchored[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.open) == MAX_DEPTH:
                raise YamlError(f"it is nested more than {MAX_DEPTH} deep")
            self._in_mapping(None)
            keys: set[str] | None = set() if isinstance(event, yaml.MappingStartEvent) else None
            self.open.append([event.anchor, self.values, keys, True])
            self._count(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, _, _ = self.open.pop()
            if anchor:
                self.anchored[anchor] = self.values - before

    def _count(self, more: int) -> None:
        self.values += more
        if self.values > MAX_VALUES:
            raise YamlError(f"it stands for more than {MAX_VALUES} values")

    def _in_mapping(self, key: str | None) -> None:
        """A key or a value has come, in whatever is open; ``key`` is its text, if it has any."""
        if not self.open or self.open[-1][2] is None:
            return
        frame = self.open[-1]
        if frame[3] and key is not None:
            if key in frame[2]:
                raise YamlError(f"it has the key '{key:.100}' twice in one place")
            frame[2].add(key)
        frame[3] = not frame[3]
