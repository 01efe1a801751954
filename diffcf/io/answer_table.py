"""The record of answers: what was asked, and a row of factors for each image.

Up to :data:`MOST_IN_JSON` images all of it is in ``factors.json``. Beyond, that file holds what was
asked alone, and ``factors.parquet`` the rows. Both are written row by row, in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from diffcf.io.errors import UnavailableError
from diffcf.io.files import whole_file, write_json
from diffcf.io.image_list import RECORD

MOST_IN_JSON = 10_000
"""Images whose rows stand in ``factors.json``."""
ROWS = "factors.parquet"
"""Name of the table of rows, where there are more."""
GROUP = 1000  # rows that are converted at once
ANSWER = "answer"
"""Column of Parquet with the place in a sweep, from 1 as in file names."""
_BY_FACTOR = ("factual", "counterfactual", "read", "low", "high")
_STEPS = "target"

Entry = Mapping[str, object]
"""Of one image: lists with a value for each factor, and others."""


def check_table(count: int) -> None:
    """Before work of hours: UnavailableError when ``count`` images need pyarrow, which lacks."""
    if count > MOST_IN_JSON and find_spec("pyarrow") is None:
        raise UnavailableError(
            f"The factors of more than {MOST_IN_JSON:,} images are written as Parquet, which needs "
            "pyarrow: run pip install 'diffcf[parquet]', or ask about fewer images at once."
        )


def write_answers(
    asked: Mapping[str, object],
    factors: Sequence[str],
    rows: Iterable[tuple[str, Entry | Sequence[Entry]]],
    count: int,
    folder: Path,
) -> None:
    """Write ``factors.json`` and, beyond :data:`MOST_IN_JSON` images, ``factors.parquet``.

    Args:
        asked: what was asked, as the file names it.
        factors: names of the factors, K.
        rows: of each image its name and its entry, or a list of entries in a sweep.
        count: how many images there are.
        folder: where to write.

    Raises:
        OutputError: when a file cannot be written.
        UnavailableError: as :func:`check_table`.
    """
    if count > MOST_IN_JSON:
        check_table(count)
        _write_parquet(factors, rows, folder / ROWS)
        write_json({**asked, "images": ROWS}, folder / RECORD)
        return
    # As `write_json` lays it out, though the whole is never in memory.
    head = json.dumps({**asked, "images": {}}, indent=2, default=str).removesuffix("{}\n}")
    with whole_file(folder / RECORD) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(head)
        before = "{\n"
        for name, entry in rows:
            text = json.dumps(entry, indent=2, default=str).replace("\n", "\n    ")
            file.write(f"{before}    {json.dumps(name)}: {text}")
            before = ",\n"
        file.write("\n  }\n}\n" if before != "{\n" else "{}\n}\n")


def _write_parquet(
    factors: Sequence[str], rows: Iterable[tuple[str, Entry | Sequence[Entry]]], path: Path
) -> None:
    """A row for each image, or for each value of its sweep."""
    import pyarrow
    from pyarrow import parquet

    flat = _flat_rows(factors, rows)
    first = list(islice(flat, GROUP))
    fields = [(name, _kind(name, value)) for name, value in first[0].items()]
    types = {"text": pyarrow.string(), "number": pyarrow.float64(), "whole": pyarrow.int64()}
    lists = {f"{name}s": pyarrow.list_(types[name]) for name in ("text", "number")}
    schema = pyarrow.schema([(name, (types | lists)[kind]) for name, kind in fields])
    with whole_file(path) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
        while first:
            writer.write_table(pyarrow.Table.from_pylist(first, schema))
            first = list(islice(flat, GROUP))


def _kind(name: str, value: object) -> str:
    if name == ANSWER:
        return "whole"
    if name in ("given", "clipped", "undetermined", "extrapolated", "intervened"):
        return "texts"
    if name == "exogenous":
        return "numbers"
    return "text" if isinstance(value, str) else "number"


def _flat_rows(
    factors: Sequence[str], rows: Iterable[tuple[str, Entry | Sequence[Entry]]]
) -> Iterator[dict[str, object]]:
    """``{"image": "a", "factual.light": 1.2, "target.light": …}``, in one order for all images."""
    for name, entry in rows:
        # A name that is no UTF-8, as file systems allow, is no text for Parquet.
        image = name.encode("utf-8", "replace").decode()
        if isinstance(entry, Mapping):
            yield {"image": image, **_flat(factors, entry)}
            continue
        for place, each in enumerate(entry, 1):
            yield {"image": image, ANSWER: place, **_flat(factors, each)}


def _flat(factors: Sequence[str], entry: Entry) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in entry.items():
        if key == _STEPS and isinstance(value, list | tuple):
            for step, values in enumerate(value, 1):
                title = key if len(value) == 1 else f"{key}_{step}"
                flat |= _by_factor(title, factors, values)
        elif key in _BY_FACTOR:
            flat |= _by_factor(key, factors, value)
        else:
            flat[key] = value
    return flat


def _by_factor(title: str, factors: Sequence[str], values: object) -> dict[str, object]:
    """A column for each factor; none where the weights read nothing off images."""
    if not isinstance(values, list | tuple):
        return {}
    return {f"{title}.{name}": value for name, value in zip(factors, values, strict=True)}
