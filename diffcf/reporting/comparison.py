"""Tables across methods on one dataset: quality, parts, sequences, components, cost, rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from diffcf.io import ResultsError
from diffcf.reporting import measures as columns
from diffcf.reporting.content import Column, Row, Table, compared, metric
from diffcf.reporting.results import (
    ABLATION,
    Method,
    Record,
    first_problem,
    read_json,
    sampling_text,
)
from diffcf.reporting.single import references

_LEAST = 1e-12
ABLATIONS = {
    "ablation": "rules for λt",
    "without": "our method without its components, after training with all of them",
}
"""What ``<dataset>/<name>.json``, copied from an ``ablation.json``, compares."""
_COLUMNS = (
    Column("ACM roots", metric("acm/roots"), ".4f", "lower"),
    Column("ACM leaves", metric("acm/leaves"), ".4f", "lower"),
    Column("PSNR roots", metric("psnr/roots"), ".1f", "higher"),
    Column("PSNR leaves", metric("psnr/leaves"), ".1f", "higher"),
    Column("reconstruction", metric("psnr/reconstruction"), ".1f", "higher"),
    Column("time / none", metric("time_ratio"), ".2f"),
)


def comparison_tables(dataset: str, methods: Sequence[Method]) -> list[Table]:
    """Every table of one dataset that its results fill.

    Methods whose name starts with ``ours_`` are variants of ours: they stand in the table of its
    components, and do not compete with the peers.
    """
    known = _references(methods)
    nothing = [reference for reference in known if reference.name == "do_nothing"]
    ours = [method for method in methods if method.name.startswith("ours")]
    methods = [method for method in methods if not method.name.startswith("ours_")] or methods
    kinds = {
        "main": ("quality of counterfactuals", columns.quality()),
        "parts": ("ACM by what a factor has to do with the one set", columns.parts()),
        "sequence": (
            "ACM after each step of a sequence",
            columns.sequence(list(_records(methods))),
        ),
    }
    tables = [
        compared(name, f"{dataset}: {what}", read, methods, known, _notes(methods))
        for name, (what, read) in kinds.items()
    ]
    tables = [table for table in tables if len(table.headings) > 1]
    if len(ours) > 1:
        caption = f"{dataset}: components of our method"
        tables.append(
            compared("components", caption, columns.quality(), ours, nothing, _notes(ours))
        )
    if any("cost/seconds" in record["metrics"] for record in _records(methods)):
        caption = f"{dataset}: what the methods cost"
        tables.append(
            compared("cost", caption, columns.cost(), methods, notes=_cost_notes(methods))
        )
    return tables


def ablation_table(dataset: str, path: Path) -> Table:
    """The ways to sample that ``diffcf ablate`` compared; :data:`ABLATIONS` says of which files.

    Raises:
        ResultsError: for a file that is something else.
    """
    record = read_json(path, "run `diffcf ablate` first")
    if problem := first_problem(record, ABLATION):
        raise ResultsError(f"{path} was not written by `diffcf ablate`: {problem}.")
    variants = [Method(name, name, ({"metrics": row},)) for name, row in record["rows"].items()]
    nothing = [variant for variant in variants if variant.name == "do nothing"]
    ruled = [variant for variant in variants if variant.name != "do nothing"]
    origin = record["provenance"]
    held_out = "validation" if origin.get("split") == "val" else "held-out"
    note = (
        f"{origin['images']} {held_out} images, one training, {origin['device']}; best in bold. "
        "Time is that of drawing, over that of drawing without guidance."
    )
    caption = f"{dataset}: {ABLATIONS[path.stem]}"
    table = compared(path.stem, caption, _COLUMNS, ruled, nothing, [note])
    rows = tuple(Row(row.title, row.cells, None, row.reference) for row in table.rows)
    return Table(table.name, caption, ("variant", *table.headings[1:]), rows, table.notes)


def cost_points(methods: Sequence[Method]) -> dict[str, list[tuple[float, float]]]:
    """By method, (seconds per counterfactual, mean ACM of roots and leaves) of each seed.

    Those that a logarithmic axis cannot show are left out.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for method in methods:
        for record in method.records:
            seconds, acm = record["metrics"].get("cost/seconds"), _both(record)
            if seconds and acm and min(seconds, acm) > _LEAST:
                points.setdefault(method.title, []).append((seconds, acm))
    return points


def nothing_score(methods: Sequence[Method]) -> float | None:
    """Mean ACM of roots and leaves of doing nothing."""
    known = [reference for reference in _references(methods) if reference.name == "do_nothing"]
    return _both(known[0].records[0]) if known else None


# --- references and notes ---


def _both(record: Record) -> float | None:
    values = [record["metrics"].get(f"acm/{name}") for name in ("roots", "leaves")]
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _records(methods: Iterable[Method]) -> Iterator[Record]:
    return (record for method in methods for record in method.records)


def _references(methods: Sequence[Method]) -> list[Method]:
    """The reference methods as the first record has them: they are the same in all."""
    first = methods[0].records[0]
    return [
        Method(name, name.replace("_", " "), (_under(first, f"{name}/"),))
        for name in references(first["metrics"])
    ]


def _under(record: Record, prefix: str) -> dict[str, Any]:
    metrics: Mapping[str, float] = record["metrics"]
    own = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    return {**record, "metrics": own}


def _notes(methods: Sequence[Method]) -> list[str]:
    """What was measured, on what, and with which budget."""
    records = list(_records(methods))
    first = (record["readers"][0] for record in records if record.get("readers"))
    readers = " or the ".join(dict.fromkeys(first))
    read = f", read by the {readers}" if readers else ""
    return [f"{records[0]['images']} held-out images{read}; {_shown(methods)}.", _origin(records)]


def _shown(methods: Sequence[Method]) -> str:
    """What a cell holds."""
    several = any(len(method.records) > 1 for method in methods)
    seeds = "mean ± standard deviation over n seeds" if several else "one seed"
    return f"{seeds}; best of the trained methods in bold" if len(methods) > 1 else seeds


def _origin(records: Sequence[Record]) -> str:
    trainings = [record["provenance"]["training"] for record in records]
    trained = _either(training["device"] for training in trainings if training)
    budgets = _either(filter(None, (_budget(record) for record in records)))
    tested = _either(filter(None, (record["provenance"].get("device") for record in records)))
    parts = [
        f"Trained on {trained}" if trained else "Untrained",
        f"budget {budgets}" if budgets and trained else "",
        f"tested on {tested}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _budget(record: Record) -> str | None:
    """The training budget that the record's config names."""
    trainer = (record["provenance"].get("config") or {}).get("trainer") or {}
    for callback in trainer.get("callbacks") or []:
        if callback["class_path"].rpartition(".")[2] == "TrainingBudget":
            settings = callback["init_args"]
            return f"{settings['minutes']:g} {settings['clock']} minutes"
    steps = trainer.get("max_steps")
    return f"{steps} steps" if steps and steps > 0 else None


def _cost_notes(methods: Sequence[Method]) -> list[str]:
    drawn = [
        f"{method.title}, {text}"
        for method in methods
        if (text := _either(filter(None, map(sampling_text, method.records))))
    ]
    batches = _either(f"{r['cost']['images']}" for r in _records(methods) if r.get("cost"))
    note = (
        f"One abduction and one prediction, {batches} images at a time; seconds are of the "
        "processor, all threads added, or of a card; evaluations are images through a network for "
        "each counterfactual, those of guidance apart; memory is the peak of the whole process; "
        f"{_shown(methods)}."
    )
    sampled = [f"By sampling: {'; '.join(drawn)}."] if drawn else []
    return [note, *sampled, _origin(list(_records(methods)))]


def _either(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
