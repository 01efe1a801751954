"""YAML files that anyone may have written: small, not deep, no key twice, no exploding anchors.

PyYAML's safe loader makes plain values only, but it recurses as deep as the text nests, takes the
last of two equal keys without a word, and lets a few lines of anchors stand for a billion values.
So the nodes of a text, which share what an anchor stands for, are composed within limits first.
"""

from __future__ import annotations

import re
from collections import Counter
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


def load_yaml(path: Path, load: Callable[[str], object] = yaml.safe_load) -> Any:
    """The values of a UTF-8 file, in present names; ``load`` must make plain ones only.

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
        _BoundedLoader(text).get_single_node()
        return present(load(text))
    except YamlError:
        raise
    except Exception as error:  # dates, numbers and tags fail in ways of their own
        raise YamlError(" ".join(str(error).split()) or type(error).__name__) from None


class WrittenLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Leaves unquoted values as the texts they are: ``yes``, ``01``, ``null``."""

    # Only "<<", which merges mappings, means something else than its letters.
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own form)
        "<": [("tag:yaml.org,2002:merge", re.compile("<<"))]
    }


def load_written(text: str) -> object:
    """The values of a text, every scalar as the text that stands there."""
    return yaml.load(text, WrittenLoader)


def check_keys(node: yaml.MappingNode) -> None:
    """Raises YamlError where a mapping has a key twice."""
    keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    if twice := [key for key, times in keys.items() if times > 1]:
        raise YamlError(f"it has the key '{twice[0]:.100}' twice in one place")


class _BoundedLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Composes the nodes of a text; YamlError as soon as it exceeds a limit or has a key twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0  # how many nodes the present one lies in
        self.values = 0  # so far, those behind an anchor counted at every use
        self.anchored: dict[str, int] = {}  # how many values each finished anchor stands for

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event, before = self.peek_event(), self.values
        if isinstance(event, yaml.AliasEvent) and event.anchor not in self.anchored:
            raise YamlError(f"*{event.anchor} stands for itself, or for nothing")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_LETTERS:
            raise YamlError(f"a value has more than {MAX_LETTERS} letters")
        if isinstance(event, yaml.CollectionStartEvent) and self.depth == MAX_DEPTH:
            raise YamlError(f"it is nested more than {MAX_DEPTH} deep")
        self.values += self.anchored[event.anchor] if isinstance(event, yaml.AliasEvent) else 1
        if self.values > MAX_VALUES:
            raise YamlError(f"it stands for more than {MAX_VALUES} values")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if event.anchor:
            self.anchored.setdefault(event.anchor, self.values - before)
        if isinstance(node, yaml.MappingNode):
            check_keys(node)
        return node
