"""Results on disk: what ``diffcf test`` and ``diffcf benchmark`` wrote, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from diffcf.causal import Dag
from diffcf.io import GraphError, ResultsError, present

Record: TypeAlias = Mapping[str, Any]
"""What one ``metrics.json`` holds; :data:`RECORD` is its shape."""

# Parts of a protocol that decide neither which images nor which interventions are tested.
_FREE = {"readers", "references", "fid_images", "lpips", "resamples"}


@dataclass(frozen=True)
class MethodResults:
    """The results of one method on one dataset.

    Attributes:
        name: of its folder.
        title: in tables.
        records: by seed, ascending.
    """

    name: str
    title: str
    records: tuple[Record, ...]


def find_results(folder: Path) -> dict[str, list[MethodResults]]:
    """Methods by dataset, of ``<folder>/<dataset>/<method>/<seed>.json``; ours come first.

    Raises:
        ResultsError: when there are none; for a file that is not ours or lies in another's place;
            and when methods were tested on different images or interventions.
    """
    paths = [path for path in folder.glob("*/*/*.json") if re.fullmatch(r"[0-9]+", path.stem)]
    if not paths:
        raise ResultsError(f"There are no results in {folder}: run `diffcf benchmark` first.")
    found: dict[str, dict[str, list[Record]]] = {}
    for path in sorted(paths, key=_rank):
        dataset, method = path.parts[-3:-1]
        found.setdefault(dataset, {}).setdefault(method, []).append(_placed(path))
    for methods in found.values():
        _check_questions([record for records in methods.values() for record in records])
    return {
        dataset: [
            MethodResults(name, display_name(records[0]), tuple(records))
            for name, records in methods.items()
        ]
        for dataset, methods in found.items()
    }


def _rank(path: Path) -> tuple[str, bool, str, int]:
    dataset, method = path.parts[-3:-1]
    return dataset, not method.startswith("ours"), method, int(path.stem)


def _placed(path: Path) -> Record:
    """The record of a file that lies where the benchmark puts it."""
    record = read_record(path)
    if record.get("benchmark") is None:
        raise ResultsError(
            f"{path} was not written by `diffcf benchmark`: move it out of the folder of methods."
        )
    if Path(*path.parts[-3:]).as_posix() != _place(record):
        raise ResultsError(
            f"{path} holds other results than its place says: move it to {_place(record)}."
        )
    return record


def _place(record: Record) -> str:
    """Where the benchmark puts a record, below the folder of results."""
    block = record["benchmark"]
    return f"{block['dataset']}/{block['method']}/{block['seed']}.json"


def _check_questions(records: Sequence[Record]) -> None:
    """ResultsError unless all records answer the same questions on as many images."""
    first, asked = records[0], _questions(records[0])
    for record in records[1:]:
        other = _questions(record)
        if different := sorted(key for key in asked | other if asked.get(key) != other.get(key)):
            raise ResultsError(
                f"{_place(record)} and {_place(first)} differ in {', '.join(different)} of what "
                "was asked: test one of them again."
            )


def _questions(record: Record) -> dict[str, object]:
    protocol = record.get("protocol") or {}
    asked = {key: value for key, value in protocol.items() if key not in _FREE}
    return asked | {"images": record["images"]}


def read_record(path: Path) -> dict[str, Any]:
    """What ``diffcf test`` wrote; ResultsError for a file that is missing or something else."""
    return read_json(path, RECORD, "diffcf test")


def read_json(path: Path, shape: Shape, command: str) -> dict[str, Any]:
    """What ``command`` wrote, of that shape.

    Raises:
        ResultsError: for a file that is missing, no JSON, or of another shape.
    """
    if not path.is_file():
        raise ResultsError(f"Results file {path} does not exist: run `{command}` first.")
    try:
        record = present(json.loads(path.read_text(encoding="utf-8")))
    # ValueError: no JSON, no UTF-8, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"Results file {path} is not JSON: {error}.") from None
    if problem := first_problem(record, shape):
        raise ResultsError(f"{path} was not written by `{command}`: {problem}.")
    return record


def display_name(record: Record) -> str:
    """A method's name as people read it: its title, its name in the benchmark, or its class."""
    block = record.get("benchmark")
    if block:
        return block.get("title") or block["method"].replace("_", " ")
    path = record["provenance"].get("method") or "DiffusionCounterfactuals"  # not in older records
    name = path.rpartition(".")[2]
    return "ours" if name == "DiffusionCounterfactuals" else name


def sampling_text(record: Record) -> str | None:
    """Guidance and steps, as in "no guidance, 30 steps"; None for a method that takes no steps.

    A method that takes steps evaluates a network at each of them; an autoencoder does so twice.
    """
    origin, sampling = record["provenance"], record["provenance"]["sampling"]
    steps, evaluations = sampling["steps"], record["metrics"].get("cost/evaluations", 0)
    if origin.get("method") and evaluations < max(3, steps):  # older records do not name it
        return None
    rules = [sampling.get("guidance"), sampling.get("free")]
    named = [rule["rule"] for rule in rules if rule]
    return f"{' and '.join(named) or 'no guidance'}, {steps} steps"


# --- the shape of a record ---

Check: TypeAlias = Callable[[object], str | None]
"""``value -> problem``, None where there is none."""
Shape: TypeAlias = "Check | Mapping[str, Shape] | list[Shape]"
"""A check; ``[shape]``, a list of such things; ``{"*": shape}``, a mapping to such things; or
``{key: shape}``, where a key that ends in ``?`` may be missing or null."""


def first_problem(value: object, shape: Shape, place: str = "") -> str | None:
    """What is wrong, as in "images is no whole number"; None when all is as ``shape`` says."""
    if callable(shape):
        problem = shape(value)
        return problem and f"{place} {problem}"
    parts: list[tuple[object, Shape, str]] = []
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place or 'it'} is no list"
        parts = [(item, shape[0], f"{place}[{number}]") for number, item in enumerate(value)]
    elif not isinstance(value, dict):
        return f"{place or 'it'} is no mapping"
    elif "*" in shape:
        named = value.items()
        parts = [(item, shape["*"], f"{place} holds '{name:.100}', which") for name, item in named]
    else:
        for key, part in shape.items():
            name, optional = key.removesuffix("?"), key.endswith("?")
            if name in value and not (optional and value[name] is None):
                parts.append((value[name], part, f"{place}.{name}".lstrip(".")))
            elif not optional:
                return f"{place or 'it'} lacks {name}"
    return next(filter(None, (first_problem(*part) for part in parts)), None)


def _check(passes: Callable[[object], bool], problem: str) -> Check:
    return lambda value: None if passes(value) else problem


def _is_number(value: object) -> bool:
    # Neither NaN nor what formats and floats cannot hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_interval(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(end is None or _is_number(end) for end in value)


def _graph(value: object) -> str | None:
    try:
        Dag.from_dict(value)
    except GraphError as error:
        return f"is no graph ({error})"
    return None


def _training(value: object) -> str | None:
    shape: Shape = {"seconds": _NUMBER, "processor_seconds?": _NUMBER, "device": _TEXT}
    return None if value == {} else first_problem(value, shape, "is not whole: it")


def _callback(value: object) -> str | None:
    problem = first_problem(value, {"class_path": _TEXT, "init_args?": {}}, "is none: it")
    if problem or not isinstance(value, dict) or budget_of(value) is None:
        return problem
    return first_problem(value, {"init_args": {"minutes": _NUMBER, "clock": _TEXT}}, "is none: it")


def budget_of(callback: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of a TrainingBudget; None for another callback."""
    budget = callback["class_path"].rpartition(".")[2] == "TrainingBudget"
    return callback.get("init_args", {}) if budget else None


_NUMBER = _check(_is_number, "is no finite number, or far too large")
_COUNT = _check(lambda n: _is_number(n) and isinstance(n, int) and n >= 0, "is no whole number")
_TEXT = _check(lambda text: isinstance(text, str) and len(text) < 1000, "is no short text")
_RULE: Shape = {"rule": _TEXT}

RECORD: Shape = {
    "metrics": {"*": _NUMBER},
    "intervals?": {"*": _check(_is_interval, "is no interval")},
    "images": _COUNT,
    "readers?": [_TEXT],
    "protocol?": {},
    "cost?": {"images": _COUNT},
    "provenance": {
        "method?": _TEXT,
        "graph?": _graph,
        "device?": _TEXT,
        "training": _training,
        "sampling": {"steps": _NUMBER, "guidance?": _RULE, "free?": _RULE},
        "config?": {"trainer?": {"callbacks?": [_callback], "max_steps?": _NUMBER}},
    },
    "benchmark?": {"dataset": _TEXT, "method": _TEXT, "seed": _COUNT, "title?": _TEXT},
}
"""Of ``diffcf test`` and ``diffcf benchmark``."""

ABLATION: Shape = {
    "rows": {"*": {"*": _NUMBER}},
    "provenance": {"images": _COUNT, "device": _TEXT, "split?": _TEXT},
}
"""Of ``diffcf ablate``."""
