"""Results on disk: what ``diffcf test`` and ``diffcf benchmark`` wrote, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcf.causal import CausalGraph
from diffcf.io import GraphError, ResultsError, present

Record = Mapping[str, Any]
"""What one ``metrics.json`` holds."""

# Parts of a protocol that decide neither which images nor which interventions are met.
_FREE = {"readers", "references", "fid_images", "lpips", "resamples"}


@dataclass(frozen=True)
class Method:
    """The results of one method on one dataset.

    Attributes:
        name: of its folder.
        title: in tables.
        records: by seed, ascending.
    """

    name: str
    title: str
    records: tuple[Record, ...]


def find_results(folder: Path) -> dict[str, list[Method]]:
    """Methods by dataset, of ``<folder>/<dataset>/<method>/<seed>.json``; ours come first.

    Raises:
        ResultsError: when there are none; for a file that is not ours or lies in another's place;
            and when methods met different images or interventions.
    """
    found: dict[str, dict[str, list[Path]]] = {}
    for path in folder.glob("*/*/*.json"):
        if re.fullmatch(r"[0-9]+", path.stem):
            found.setdefault(path.parts[-3], {}).setdefault(path.parts[-2], []).append(path)
    if not found:
        raise ResultsError(f"There are no results in {folder}: run `diffcf benchmark` first.")
    datasets: dict[str, list[Method]] = {}
    for dataset, methods in sorted(found.items()):
        datasets[dataset] = [_method(name, methods[name]) for name in sorted(methods, key=_rank)]
        _check_questions([record for method in datasets[dataset] for record in method.records])
    return datasets


def _rank(name: str) -> tuple[bool, str]:
    return not name.startswith("ours"), name


def _method(name: str, paths: Sequence[Path]) -> Method:
    records = tuple(_placed(path) for path in sorted(paths, key=lambda path: int(path.stem)))
    return Method(name, display_name(records[0]), records)


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


def _questions(record: Record) -> dict[str, Any]:
    protocol = record.get("protocol") or {}
    asked = {key: value for key, value in protocol.items() if key not in _FREE}
    return asked | {"images": record["images"]}


def read_record(path: Path) -> dict[str, Any]:
    """What ``diffcf test`` wrote; ResultsError for a file that is missing or something else."""
    record = read_json(path, "run `diffcf test` first")
    if problem := first_problem(record, RECORD):
        raise ResultsError(f"{path} was not written by `diffcf test`: {problem}.")
    return record


def read_json(path: Path, remedy: str) -> Any:
    """A JSON file; ResultsError when it is missing, with the remedy, or no JSON."""
    if not path.is_file():
        raise ResultsError(f"Results file {path} does not exist: {remedy}.")
    try:
        return present(json.loads(path.read_text(encoding="utf-8")))
    # ValueError: no JSON, no UTF-8, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"Results file {path} is not JSON: {error}.") from None


def display_name(record: Record) -> str:
    """A method's name as people read it: its title, its name in the benchmark, or its class."""
    block = record.get("benchmark")
    if block:
        return block.get("title") or block["method"].replace("_", " ")
    method = (
        record["provenance"].get("method")
        or "diffcf.methods.diffusion_counterfactuals.DiffusionCounterfactuals"
    )
    name = method.rpartition(".")[2]
    return "ours" if name == "DiffusionCounterfactuals" else name


def sampling_text(record: Record) -> str | None:
    """Guidance and steps, as in "no guidance, 30 steps"; None for a method that takes no steps.

    Whoever takes steps evaluates a network at each of them; an autoencoder does so twice in all.
    """
    origin, sampling = record["provenance"], record["provenance"]["sampling"]
    steps, evaluations = sampling["steps"], record["metrics"].get("cost/evaluations", 0)
    if origin.get("method") and evaluations < max(3, steps):  # older records do not name it
        return None
    rules = [sampling.get("guidance"), sampling.get("free")]
    named = [rule["rule"] for rule in rules if rule]
    return f"{' and '.join(named) or 'no guidance'}, {steps} steps"


Shape = Any
"""A check ``value -> problem or None``; ``{key: shape}``, where a key that ends in ``?`` may be
missing or null; or ``[shape]``, a list of such things."""

_LARGEST = 1e15
_LONGEST = 1000


def first_problem(value: Any, shape: Shape, place: str = "it") -> str | None:
    """What is wrong, as in "images is no whole number"; None when all is as ``shape`` says."""
    if isinstance(shape, dict):
        return _of_mapping(value, shape, place)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is no list"
        named = ((entry, f"{place}[{number}]") for number, entry in enumerate(value))
        return _first(first_problem(entry, shape[0], name) for entry, name in named)
    wrong = shape(value)
    return None if wrong is None else f"{place} {wrong}"


def _of_mapping(value: Any, shape: dict[str, Shape], place: str) -> str | None:
    if not isinstance(value, dict):
        return f"{place} is no mapping"
    for key, part in shape.items():
        name, inside = key.removesuffix("?"), place if place != "it" else ""
        if name not in value or (key.endswith("?") and value[name] is None):
            if not key.endswith("?"):
                return f"{place} lacks {name}"
            continue
        if wrong := first_problem(value[name], part, f"{inside}.{name}".lstrip(".")):
            return wrong
    return None


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)


# --- checks ---


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no number"
    return None if abs(value) < _LARGEST else "is not finite, or far too large"


def _count(value: Any) -> str | None:
    whole = type(value) is int and 0 <= value < _LARGEST
    return None if whole else "is no whole number"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) < _LONGEST else "is no short text"


def _mapping(value: Any) -> str | None:
    return None if isinstance(value, dict) else "is no mapping"


def _each(shape: Shape) -> Callable[[Any], str | None]:
    """A mapping of anything to things of one shape."""

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "is no mapping"
        named = ((name, first_problem(entry, shape, "")) for name, entry in value.items())
        return _first(f"holds '{name:.100}', which{wrong}" for name, wrong in named if wrong)

    return check


def _filled(shape: Shape) -> Callable[[Any], str | None]:
    """An empty mapping, or one of this shape."""

    def check(value: Any) -> str | None:
        return None if value == {} else first_problem(value, shape, "is not whole:")

    return check


def _graph(value: Any) -> str | None:
    try:
        CausalGraph.from_dict(value)
    except GraphError as error:
        return f"is no graph ({error})"
    return None


def _callback(value: Any) -> str | None:
    problem = first_problem(value, {"class_path": _text, "init_args?": _mapping}, "is none:")
    if problem or not value["class_path"].endswith(".TrainingBudget"):
        return problem
    return first_problem(value, {"init_args": {"minutes": _number, "clock": _text}}, "is none:")


_RULE = {"rule": _text}
_TRAINER = {"callbacks?": [_callback], "max_steps?": _number}
_TRAINING = {"seconds": _number, "processor_seconds?": _number, "device": _text}
_SAMPLING = {"steps": _number, "guidance?": _RULE, "free?": _RULE}

RECORD: dict[str, Shape] = {
    "metrics": _each(_number),
    "images": _count,
    "readers?": [_text],
    "protocol?": _mapping,
    "cost?": {"images": _count},
    "provenance": {
        "method?": _text,
        "graph?": _graph,
        "device?": _text,
        "training": _filled(_TRAINING),
        "sampling": _SAMPLING,
        "config?": {"trainer?": _TRAINER},
    },
    "benchmark?": {"dataset": _text, "method": _text, "seed": _count, "title?": _text},
}
"""Of ``diffcf test`` and ``diffcf benchmark``."""

ABLATION: dict[str, Shape] = {
    "rows": _each(_each(_number)),
    "provenance": {"images": _count, "device": _text, "split?": _text},
}
"""Of ``diffcf ablate``."""
