"""Results on disk: what ``diffcf test`` and ``diffcf benchmark`` wrote, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from diffcf.causal import Dag
from diffcf.io import GraphError, ResultsError, present

Record: TypeAlias = Mapping[str, Any]
"""What one ``metrics.json`` holds; :data:`RECORD` is its shape."""

# Parts of a protocol that decide neither which images nor which interventions are tested.
_FREE = {"readers", "references", "fid_images", "fid_real", "lpips", "resamples"}
# Further questions, and what says how many: a record in which there are none lacks these numbers,
# and its others are of the same questions.
_FURTHER = {
    "steps": "steps",
    "sequence_images": "steps",
    "cycles": "cycles",
    "cycle_images": "cycles",
    "reverse_images": "reverse_images",
}


@dataclass(frozen=True)
class MethodResults:
    """The results of one method on one dataset: its folder's name, its title, records by seed."""

    name: str
    title: str
    records: tuple[Record, ...]


def find_results(folder: Path) -> dict[str, list[MethodResults]]:
    """Methods by dataset, of ``<folder>/<dataset>/<method>/<seed>.json``; ours come first.

    ResultsError when there are none, for a file that is not ours or lies in another's place, and
    when methods were tested on different images or interventions.
    """
    paths = [path for path in folder.glob("*/*/*.json") if re.fullmatch(r"[0-9]+", path.stem)]
    if not paths:
        raise ResultsError(f"There are no results in {folder}: run `diffcf benchmark` first.")
    found: dict[str, dict[str, list[Record]]] = {}
    for path in sorted(paths, key=_rank):
        dataset, method = path.parts[-3:-1]
        found.setdefault(dataset, {}).setdefault(method, []).append(_placed(path))
    for methods in found.values():
        _check_questions(*chain.from_iterable(methods.values()))
    return {
        dataset: [MethodResults(m, display_name(r[0]), tuple(r)) for m, r in methods.items()]
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
    block = record["benchmark"]
    return f"{block['dataset']}/{block['method']}/{block['seed']}.json"


def _check_questions(first: Record, *others: Record) -> None:
    """ResultsError unless all records answer the same questions on as many images."""

    def questions(record: Record) -> dict[str, object]:
        protocol = (record.get("protocol") or {}).items()
        return {k: v for k, v in protocol if k not in _FREE} | {"images": record["images"]}

    asked = questions(first)
    for record in others:
        other = questions(record)
        lacking = {k for k, count in _FURTHER.items() if 0 in (asked.get(count), other.get(count))}
        keys = (asked | other).keys() - lacking
        if different := sorted(key for key in keys if asked.get(key) != other.get(key)):
            raise ResultsError(
                f"{_place(record)} and {_place(first)} differ in {', '.join(different)} of what "
                "was asked: test one of them again."
            )
        asked |= {key: other.get(key) for key in lacking if other.get(_FURTHER[key])}


def read_record(path: Path) -> dict[str, Any]:
    """What ``diffcf test`` wrote; ResultsError for a file that is missing or something else."""
    return read_json(path, RECORD, "diffcf test")


def read_json(path: Path, shape: Shape, command: str) -> dict[str, Any]:
    """What ``command`` wrote; ResultsError for a file that is missing or of another shape."""
    if not path.is_file():
        raise ResultsError(f"Results file {path} does not exist: run `{command}` first.")
    try:
        record = present(json.loads(path.read_text(encoding="utf-8")))
    # ValueError: no JSON, no UTF-8, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"Results file {path} is not JSON: {error}.") from None
    if problem := first_problem(record, shape):
        found = problem.removeprefix(".") if problem.startswith(".") else f"it{problem}"
        raise ResultsError(f"{path} was not written by `{command}`: {found}.")
    return record


SHOWN = 5e-4  # in units of a factor's range: what rounds to .000 is not worth a sentence


def display_name(record: Record) -> str:
    """A method's name as people read it: its title, its name in the benchmark, or its class."""
    if block := record.get("benchmark"):
        return block.get("title") or block["method"].replace("_", " ")
    path = record["provenance"].get("method") or "DiffusionCounterfactuals"  # not in older records
    name = path.rpartition(".")[2]
    return "ours" if name == "DiffusionCounterfactuals" else name


def caveats(record: Record) -> str:
    """What to know of the scores, in sentences: answers that lack, and :func:`shared_caveats`."""
    return " ".join(filter(None, [answers_text(record), shared_caveats(record)]))


def shared_caveats(record: Record) -> str:
    """What to know of every method's scores: questions not asked, a ruler that is not exact."""
    return " ".join(filter(None, [_left_out_text(record), _ruler_text(record)]))


def answers_text(record: Record) -> str:
    """How many questions are answered, by factor set, where a method left some open."""
    counts = (record.get("answers") or {}).items()
    parts = [
        f"{count['given']} of {count['asked']} of {f'do({name})' if name else 'nothing set'}"
        for name, count in counts
        if count["given"] < count["asked"] and (name or count["given"])  # the null one is optional
    ]
    return f"Scored by a part of the answers: {', '.join(parts)}." if parts else ""


def _ruler_text(record: Record) -> str:
    """Where the ruler errs by more than what tables show; empty for an exact one."""
    errors = {k: error for k, error in (record.get("ruler_error") or {}).items() if error > SHOWN}
    parts = [f"{name} by {error:.4f}" for name, error in errors.items()]
    return f"On exact pictures of this style the ruler errs: {', '.join(parts)}." if parts else ""


def _left_out_text(record: Record) -> str:
    """How many questions the protocol could not ask, in a sentence; empty where it asked all."""
    counts = record.get("left_out") or {}
    asked = {name: name.replace("step_", "step ") for name in counts if name.startswith("step_")}
    parts = [f"{count} of {asked.get(name, f'do({name})')}" for name, count in counts.items()]
    why = "no other value, at least min_change away, occurs or can be shown"
    return f"Images left out of the scores, since {why}: {', '.join(parts)}." if parts else ""


def sampling_text(record: Record) -> str | None:
    """Guidance and steps, as in "no guidance, 30 steps"; None for a method that takes no steps.

    A method that takes steps evaluates a network at each of them; an autoencoder does so twice.
    """
    origin, sampling = record["provenance"], record["provenance"]["sampling"]
    steps, evaluations = sampling["steps"], record["metrics"].get("cost/evaluations", 0)
    if origin.get("method") and evaluations < max(3, steps):  # older records do not name it
        return None
    rules = [sampling.get(name) for name in ("guidance", "free", "feedback")]
    named = [rule["rule"] for rule in rules if rule]
    return f"{' and '.join(named) or 'no guidance'}, {steps} steps"


# --- the shape of a record ---

Check: TypeAlias = Callable[[object], str]
"""``value -> problem``, as in " is no number"; empty where there is none."""
Shape: TypeAlias = "Check | Mapping[str, Shape] | list[Shape]"
"""A check; ``[shape]``, a list of such things; ``{"*": shape}``, a mapping to such things; or
``{key: shape}``, where a key that ends in ``?`` may be missing or null."""


def first_problem(value: object, shape: Shape) -> str:
    """What is wrong and where, as in ".images is no whole number"; empty when nothing is."""
    if callable(shape):
        return shape(value)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return " is no list"
        return _first_within("[{}]", enumerate(value), shape[0])
    if not isinstance(value, dict):
        return " is no mapping"
    if "*" in shape:
        return _first_within(" holds '{:.100}', which", value.items(), shape["*"])
    for key, part in shape.items():
        name, optional = key.removesuffix("?"), key.endswith("?")
        if name not in value and not optional:
            return f" lacks {name}"
        absent = optional and value.get(name) is None
        if not absent and (problem := first_problem(value[name], part)):
            return f".{name}{problem}"
    return ""


def _first_within(place: str, items: Iterable[tuple[object, object]], shape: Shape) -> str:
    for name, item in items:
        if problem := first_problem(item, shape):
            return place.format(name) + problem
    return ""


def _check(passes: Callable[[object], bool], problem: str) -> Check:
    return lambda value: "" if passes(value) else f" is {problem}"


def _is_number(value: object) -> bool:
    # Neither NaN nor what formats and floats cannot hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_interval(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(end is None or _is_number(end) for end in value)


def _graph(value: object) -> str:
    try:
        Dag.from_dict(value)
    except GraphError as error:
        return f" is no graph ({error})"
    return ""


def _training(value: object) -> str:
    shape: Shape = {"seconds": _NUMBER, "processor_seconds?": _NUMBER, "device": _TEXT}
    known = value is not None and value != {}  # not known to us; untrained
    problem = first_problem(value, shape) if known else ""
    return problem and f" is not whole: it{problem}"


def _callback(value: object) -> str:
    problem = first_problem(value, {"class_path": _TEXT, "init_args?": {}})
    if not problem and isinstance(value, dict) and budget_of(value) is not None:
        problem = first_problem(value, {"init_args": {"minutes": _NUMBER, "clock": _TEXT}})
    return problem and f" is none: it{problem}"


def budget_of(callback: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments of a TrainingBudget; None for another callback."""
    budget = callback["class_path"].rpartition(".")[2] == "TrainingBudget"
    return callback.get("init_args", {}) if budget else None


_NUMBER = _check(_is_number, "no finite number, or far too large")
_COUNT = _check(lambda n: _is_number(n) and isinstance(n, int) and n >= 0, "no whole number")
_TEXT = _check(lambda text: isinstance(text, str) and len(text) < 1000, "no short text")
_RULE: Shape = {"rule": _TEXT}

_ONE_TEST: dict[str, Shape] = {
    "metrics": {"*": _NUMBER},
    "intervals?": {"*": _check(_is_interval, "no interval")},
    "images": _COUNT,
    "left_out?": {"*": _COUNT},
    "answers?": {"*": {"given": _COUNT, "asked": _COUNT}},
    "ruler_error?": {"*": _NUMBER},
    "readers?": [_TEXT],
    "protocol?": {},
    "cost?": {"images": _COUNT},
    "provenance": {
        "method?": _TEXT,
        "graph?": _graph,
        "device?": _TEXT,
        "training": _training,
        "sampling": {"steps": _NUMBER, "guidance?": _RULE, "free?": _RULE, "feedback?": _RULE},
        "config?": {"trainer?": {"callbacks?": [_callback], "max_steps?": _NUMBER}},
    },
    "benchmark?": {"dataset": _TEXT, "method": _TEXT, "seed": _COUNT, "title?": _TEXT},
}
RECORD: Shape = {**_ONE_TEST, "also?": [_ONE_TEST]}
"""Of ``diffcf test`` and ``diffcf benchmark``; beside weights, ``also`` holds further tests."""

TASK: Shape = {
    "dataset": _TEXT,
    "data": {"class_path": _TEXT, "init_args?": {}},
    "images": _COUNT,
    "size": _COUNT,
    "channels": _COUNT,
    "protocol": {},
    "files": {"*": _TEXT},
    "digest": _TEXT,
}
"""Of ``diffcf score --make``."""

ABLATION: Shape = {
    "rows": {"*": {"*": _NUMBER}},
    "provenance": {"images": _COUNT, "device": _TEXT, "split?": _TEXT},
}
"""Of ``diffcf ablate``."""
