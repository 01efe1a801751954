"""Results on disk: what ``diffcf test`` and ``diffcf benchmark`` wrote, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from diffcf.io import ResultsError, present
from diffcf.reporting.pairing import read_scores
from diffcf.reporting.shapes import RECORD, Shape, first_problem

Record: TypeAlias = Mapping[str, Any]
"""What one ``metrics.json`` holds; its shape is :data:`diffcf.reporting.shapes.RECORD`."""

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

    A record's ``by_image`` are the scores of ``<seed>.csv``, None where there are none.
    ResultsError when there are no results, for a file that is not ours or lies in another's place,
    and when methods were tested on different images or interventions.
    """
    paths = of_seeds(folder.glob("*/*/*.json"))
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


def of_seeds(paths: Iterable[Path]) -> list[Path]:
    """Those named after a seed, as the benchmark names its results, by that number."""
    named = (path for path in paths if re.fullmatch(r"[0-9]+", path.stem))
    return sorted(named, key=lambda path: int(path.stem))


def _rank(path: Path) -> tuple[str, bool, str, int]:
    dataset, method = path.parts[-3:-1]
    return dataset, not method.startswith("ours"), method, int(path.stem)


def _placed(path: Path) -> Record:
    """The record of a file that lies where the benchmark puts it."""
    record = read_record(path)
    record["by_image"] = read_scores(path.with_suffix(".csv"), record)
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
    _check_fid([first, *others])


def _check_fid(records: list[Record]) -> None:
    """ResultsError unless FID is of counterfactuals of as many factuals in all that have it."""
    known = {_place(r): r["metrics"].get("fid_factuals") for r in records if "fid" in r["metrics"]}
    one, *rest = known or [""]
    if different := [place for place in rest if known[place] != known[one]]:
        raise ResultsError(
            f"FID of {different[0]} and of {one} is of counterfactuals of {known[different[0]]} "
            f"and of {known[one]} images (None: chosen as in older versions): test one of them "
            "again."
        )


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
    rules = [sampling.get(name) for name in ("guidance", "free", "feedback", "change_filter")]
    named = [rule["rule"] for rule in rules if rule]
    return f"{' and '.join(named) or 'no guidance'}, {steps} steps"
