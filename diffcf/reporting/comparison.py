"""Tables across methods on one dataset: quality, parts, sequences, components, cost, ablations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import pandas as pd

from diffcf.reporting.measures import (
    REFERENCES,
    Column,
    Place,
    Statistic,
    columns,
    long_table,
    parsed,
    select,
    statistics,
    step,
)
from diffcf.reporting.results import (
    MethodResults,
    Record,
    answers_text,
    read_json,
    sampling_text,
    shared_caveats,
)
from diffcf.reporting.shapes import ABLATION, budget_of
from diffcf.reporting.tables import Cell, ComparisonTable, Row

_LEAST = 1e-12
_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
ABLATIONS = {
    "ablation": "rules for λt",
    "without": "our method without its components, after training with all of them",
}
"""What ``<dataset>/<name>.json``, copied from an ``ablation.json``, compares."""
_QUALITY = columns(
    "ACM roots", "ACM intermediate", "ACM leaves", "PSNR exact", "FID", "sFID",
    "FID, floor", "KID", "kept", "kept, mirrored", "identity", "PSNR reconstruction",
    "composition", "minimality",
)  # fmt: skip
_PARTS = columns("set, a root", "set, a leaf", "effects", "the others")
_COST = columns(
    "parameters (M)", "training (min)", "of processor (min)", "s / counterfactual", "evaluations",
    "of guidance", "memory (MiB)",
)  # fmt: skip
_ABLATED = columns(
    "ACM roots", "ACM leaves", "PSNR roots", "PSNR leaves", "reconstruction", "time / none"
)


def comparison_tables(dataset: str, methods: Sequence[MethodResults]) -> list[ComparisonTable]:
    """Every table of one dataset that its results fill.

    Methods whose name starts with ``ours_`` are variants of ours: they stand in the table of its
    components, and do not compete with the peers.
    """
    numbers = long_table(methods)
    ours = [method for method in methods if method.name.startswith("ours")]
    peers = [method for method in methods if not method.name.startswith("ours_")] or methods
    steps = sorted(select(numbers, "acm", intervention="sequence")["step"].unique())
    sequence = [*map(step, steps), *columns("last / first")] if steps else []
    parts = "ACM by what a factor has to do with the one set"
    components = ours if len(ours) > 1 else []
    kinds = {
        "main": ("quality of counterfactuals", _QUALITY, peers, REFERENCES),
        "parts": (parts, _PARTS, peers, REFERENCES),
        "sequence": ("ACM after each step of a sequence", sequence, peers, REFERENCES),
        "components": ("components of our method", _QUALITY, components, ["do_nothing"]),
    }
    tables = [
        compared(name, f"{dataset}: {what}", shown, numbers, rows, beside, _notes(rows))
        for name, (what, shown, rows, beside) in kinds.items()
        if rows
    ]
    if len(select(numbers, "cost/seconds")):
        caption, notes = f"{dataset}: what the methods cost", _cost_notes(peers)
        tables.append(compared("cost", caption, _COST, numbers, peers, notes=notes))
    return [table for table in tables if len(table.headings) > 2]


def ablation_table(dataset: str, path: Path) -> ComparisonTable:
    """What ``diffcf ablate`` compared (:data:`ABLATIONS`); ResultsError for another's file."""
    record = read_json(path, ABLATION, "diffcf ablate")
    variants = [
        MethodResults(name, name, ({"metrics": row},))
        for name, row in record["rows"].items()
        if name != "do nothing"  # as all variants have it beside them
    ]
    origin = record["provenance"]
    held_out = "validation" if origin.get("split") == "val" else "held-out"
    note = (
        f"{origin['images']} {held_out} images, one training, {origin['device']}; in bold the "
        "best, and those that do not differ from it at 95%. "
        "Time is that of drawing, over that of drawing without guidance."
    )
    caption, numbers = f"{dataset}: {ABLATIONS[path.stem]}", long_table(variants)
    table = compared(path.stem, caption, _ABLATED, numbers, variants, ["do_nothing"], [note])
    # All have one seed.
    rows = tuple(row._replace(cells=row.cells[:-1]) for row in table.rows)
    return replace(table, headings=("variant", *table.headings[1:-1]), rows=rows)


def compared(
    name: str,
    caption: str,
    shown: Sequence[Column],
    numbers: pd.DataFrame,
    methods: Sequence[MethodResults],
    references: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ComparisonTable:
    """A row for each method and measured reference; the last column counts seeds.

    ``numbers`` is a :func:`long_table` that may hold other methods as well. Columns that no method
    fills are left out. References are the same in all records, so the first one's are shown.
    """
    names = [method.name for method in methods]
    first = numbers[numbers["method"].isin(names[:1]) & (numbers["seed"] == 0)]
    found, known = statistics(numbers, shown, "method"), statistics(first, shown, "reference")
    for method in methods:
        for heading, scores in _scores_by_image(method, shown).items():
            if (place := (method.name, heading)) in found:
                found[place] = found[place]._replace(by_image=scores)
    best = {
        c: _best(c, measured)
        for c in shown
        if (measured := [found[n, c.heading] for n in names if (n, c.heading) in found])
    }
    rows = []
    for method in methods:
        seeds = len(method.records)
        cells = [_cell(found.get((method.name, c.heading)), seeds, top) for c, top in best.items()]
        rows.append(Row(method.title, (*cells, Cell(str(seeds)))))
    for reference in (name for name in references if (first["reference"] == name).any()):
        cells = [_cell(known.get((reference, column.heading))) for column in best]
        rows.append(Row(reference.replace("_", " "), (*cells, Cell()), reference=True))
    headings = ("method", *(c.heading + _ARROWS[c.better] for c in best), "n")
    return ComparisonTable(name, caption, headings, tuple(rows), tuple(notes))


def _scores_by_image(
    method: MethodResults, shown: Sequence[Column]
) -> dict[str, tuple[pd.Series[float], ...]]:
    """By heading, each seed's scores of every image, where all seeds have them."""
    known = [record.get("by_image") or {} for record in method.records]
    named = {name: parsed(name) for name in known[0]}
    return {
        column.heading: tuple(scores[name] for scores in known)
        for column in shown
        if not column.reference
        for name, place in named.items()
        if place == Place("", "", column.measure, column.intervention, "", column.step)
        and all(name in scores for scores in known)
    }


def _best(column: Column, measured: Sequence[Statistic]) -> Statistic | None:
    if column.better is None or len(measured) < 2:  # one alone is not best of anything
        return None
    return (min if column.better == "lower" else max)(measured, key=lambda s: fmean(s.values))


def _cell(found: Statistic | None, seeds: int = 1, best: Statistic | None = None) -> Cell:
    """Mean, standard deviation over seeds, and how many seeds where they are not the row's."""
    if found is None:
        return Cell()
    measured = len(found.values)
    spread = f" ± {found.text(stdev(found.values))}" if measured > 1 else ""
    count = f" (n = {measured})" if measured < seeds else ""
    leads = best is not None and not found.differs(best)
    return Cell(f"{found.text()}{spread}{count}", leads)


# --- quality against cost ---


class CostPoints(NamedTuple):
    """By method's title, (seconds per counterfactual, mean ACM of roots and leaves) of each seed;
    and the ACM of doing nothing, if it was measured."""

    methods: dict[str, list[tuple[float, float]]]
    nothing: float | None


def cost_points(methods: Sequence[MethodResults]) -> CostPoints:
    """Seconds and ACM of every method that has both, above the 0 of a logarithmic axis."""
    numbers = long_table(methods)
    seconds = select(numbers, "cost/seconds").set_index(["method", "seed"])["value"]
    points = pd.DataFrame({"seconds": seconds, "acm": _roots_and_leaves(numbers)}).dropna()
    points = points[(points > _LEAST).all(axis=1)]
    known = [method for method in methods if method.name in points.index]
    found = {m.title: list(points.loc[m.name].itertuples(index=False, name=None)) for m in known}
    nothing = _roots_and_leaves(numbers[numbers["method"] == methods[0].name], "do_nothing")
    return CostPoints(found, float(nothing.iloc[0]) if len(nothing) else None)


def _roots_and_leaves(numbers: pd.DataFrame, reference: str = "") -> pd.Series:
    """Their mean ACM by method and seed, where both are known."""
    acm = select(numbers, "acm", reference=reference, factor="")
    acm = acm[acm["intervention"].isin(["roots", "leaves"])]
    found = acm.groupby(["method", "seed"])["value"].agg(["mean", "size"])
    return found["mean"][found["size"] == 2]


# --- notes ---


def _notes(methods: Sequence[MethodResults]) -> list[str]:
    """What was measured, on what, and with which budget."""
    records = [record for method in methods for record in method.records]
    first = (record["readers"][0] for record in records if record.get("readers"))
    readers = " or the ".join(dict.fromkeys(first))
    read = f", read by the {readers}" if readers else ""
    images = f"{records[0]['images']} held-out images{read}; {_shown(methods)}."
    partly = [
        f"{m.title}: {text}" for m in methods for text in map(answers_text, m.records) if text
    ]
    return [*filter(None, [images, shared_caveats(records[0]), *partly]), _origin(records)]


def _shown(methods: Sequence[MethodResults]) -> str:
    several = any(len(method.records) > 1 for method in methods)
    seeds = "mean ± standard deviation over n seeds" if several else "one seed"
    bold = "in bold the best of the trained methods, and those that do not differ from it at 95%"
    return f"{seeds}; {bold}" if len(methods) > 1 else seeds


def _origin(records: Sequence[Record]) -> str:
    trainings = [record["provenance"]["training"] for record in records]
    trained = _either(training["device"] for training in trainings if training)
    budgets = _either(filter(None, (_budget(record) for record in records)))
    tested = _either(filter(None, (record["provenance"].get("device") for record in records)))
    budget = f"; budget {budgets}" if budgets and trained else ""
    untrained = "Untrained" if None not in trainings else "How it was trained is not known"
    return f"{f'Trained on {trained}' if trained else untrained}{budget}; tested on {tested}."


def _budget(record: Record) -> str | None:
    trainer = (record["provenance"].get("config") or {}).get("trainer") or {}
    for settings in filter(None, map(budget_of, trainer.get("callbacks") or [])):
        return f"{settings['minutes']:g} {settings['clock']} minutes"
    steps = trainer.get("max_steps")
    return f"{steps} steps" if steps and steps > 0 else None


def _cost_notes(methods: Sequence[MethodResults]) -> list[str]:
    texts = {m.title: _either(filter(None, map(sampling_text, m.records))) for m in methods}
    drawn = [f"{title}, {text}" for title, text in texts.items() if text]
    records = [record for method in methods for record in method.records]
    batches = _either(f"{r['cost']['images']}" for r in records if r.get("cost"))
    note = (
        f"One abduction and one prediction, {batches} images at a time; seconds are of the "
        "processor, all threads added, or of a card; evaluations are images through a network for "
        "each counterfactual, those of guidance apart; memory is the peak of the whole process; "
        f"{_shown(methods)}."
    )
    sampled = [f"By sampling: {'; '.join(drawn)}."] if drawn else []
    return [note, *sampled, _origin(records)]


def _either(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
