"""What an offline W&B run holds, read back from its ``.wandb`` file.

The file is a log in LevelDB's format (blocks of 32 KiB, records in one or several fragments) of
protobuf records, after a header of 7 bytes. Installed versions of wandb no longer ship a reader.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER, BLOCK, FRAGMENT = 7, 32768, 7
WHOLE, LAST = 1, 4


@dataclass
class OfflineRun:
    """The parts of a run: config, history rows, artifacts with their manifests, all records."""

    config: dict[str, Any] = field(default_factory=dict)
    config_updates: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, Any] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)

    @property
    def logged(self) -> dict[str, Any]:
        """The newest value of every key."""
        return {key: value for row in self.history for key, value in row.items()}


def read_offline(folder: Path) -> OfflineRun:
    """The run in an ``offline-run-*`` folder."""
    (path,) = folder.glob("*.wandb")
    run = OfflineRun()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            update = record.run.config.update if kind == "run" else record.config.update
            for item in update:
                key = item.key or ".".join(item.nested_key)
                run.config[key] = json.loads(item.value_json)
                run.config_updates.append(key)
        elif kind == "history":
            items = record.history.item
            row = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
            run.history.append(row)
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
            run.artifacts[artifact.name] = artifact
        elif kind == "artifact":
            run.artifacts[record.artifact.name] = record.artifact
    return run


def _records(data: bytes) -> Iterator[Record]:
    assert data[:4] == b":W&B"
    place, parts = HEADER, b""
    while place + FRAGMENT <= len(data):
        room = BLOCK - place % BLOCK
        if room < FRAGMENT:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + FRAGMENT])
        parts += data[place + FRAGMENT : place + FRAGMENT + length]
        place += FRAGMENT + length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
