"""Results of one method: its tables over seeds, as printed and in texts, and the page of one test.

``docs/metrics.md`` defines what stands in them, and the fields of ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from diffcf.io import write_text
from diffcf.reporting.ablation import Content, Text, table_content
from diffcf.reporting.measures import (
    REFERENCES,
    Cells,
    Column,
    Statistic,
    columns,
    long_table,
    select,
    statistics,
    step,
)
from diffcf.reporting.results import (
    MethodResults,
    Record,
    caveats,
    display_name,
    read_record,
    sampling_text,
)
from diffcf.reporting.tables import markdown

_BY_INTERVENTION = columns(
    "ACM", "do nothing", "reads as set", "F1", "AUROC", "kept", "kept, mirrored",
    "identity", "identity, mirrored", "do and undo (dB)", "change", "change at the border",
    "PSNR to the exact counterfactual (dB)",
)  # fmt: skip
_WHOLE = columns(
    "ACM roots", "ACM leaves", "PSNR roots", "PSNR leaves", "SSIM", "composition 1",
    "composition 10", "reversibility", "minimality", "CLD", "FID", "FID, floor", "sFID",
    "sFID, floor", "KID",
)  # fmt: skip
_SUMMARY = columns(
    "ACM roots", "do nothing, roots", "ACM leaves", "do nothing, leaves", "PSNR roots",
    "PSNR leaves",
)  # fmt: skip
_TARGETS = {
    "scene": "by the true causal model",
    "model": "by the learned causal model",
    "answers": "as set, with effects as the answers show them",
}
_CAPTIONS = {
    "grid": "Per sample: factual, counterfactual, exact counterfactual, and their difference.",
    "sequence": "Interventions one after another, each upon the image the last one left.",
    "dose_response": "The value set against the value read back; the line is where it should be.",
    "errors": "How far each factor reads from where it should, when it was set and when not.",
    "lambda_t": "λt along the path: the median over a batch, and where 80% of its images are.",
}


def results_table(files: Sequence[Path]) -> str:
    """:func:`seeds_table` of ``metrics.json`` files; ResultsError for a file that is none."""
    return seeds_table([read_record(Path(file)) for file in files])


def seeds_table(records: Sequence[Record]) -> str:
    """Markdown of one method's records, a seed each.

    Cells are means over seeds, with the range in brackets where there are several.
    """
    numbers = _numbers(records)
    whole = _methods(numbers, _range, "method", f"**{display_name(records[0])}**")
    tables = [markdown(*content) for content in (_interventions(numbers, _range), whole)]
    return "\n".join([*tables, _footnote(records, numbers)]) + "\n"


def summary_table(own: Mapping[str, Sequence[Record]]) -> str:
    """Markdown with a row for each dataset, of the records of our own method."""
    headings, rows = table_content("dataset", {}, {}, _SUMMARY)
    for name, records in own.items():
        # Results from before protocols had a least change answer easier questions.
        if all("min_change" in (record.get("protocol") or {}) for record in records):
            found = _complete(_numbers(records), _SUMMARY, "method")
            _, (cells,) = table_content(
                "", {"": name.replace("_", " ")}, found, _SUMMARY, missing="–"
            )
            rows = [*rows, [*cells, str(records[0]["images"])]]
    return markdown([*headings, "images"], rows)


def print_table(record: Record) -> None:
    """The table of one test: a row per intervened factor, roots, leaves, the null intervention."""
    numbers = _numbers([record])
    headings, rows = _interventions(numbers, Statistic.text)
    read = not {"acm", "acm/null"}.isdisjoint(record["metrics"])
    judged = "read by the ruler against the true model" if read else "no ruler: unread"
    table = Table(title=f"Counterfactuals, {judged}")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "intervention" else "right")
    for row in rows:
        table.add_row(*(cell.strip("*") for cell in row))
    Console().print(table)
    if said := caveats(record):
        print(said)
    if len(steps := _steps(numbers)):
        listed = " ".join(f"{value:.4f}" for value in steps["value"])
        growth = select(numbers, "acm_growth")["value"]
        over = "".join(f" (last over first {value:.2f})" for value in growth)
        print(f"Sequence of interventions, ACM per step: {listed}{over}")
    rates, true = select(numbers, "rate"), select(numbers, "true_rate")
    for rate in rates.merge(true, on=["intervention", "factor"]).itertuples():
        shares = f"in {rate.value_x:.3f} of images, truly {rate.value_y:.3f}"
        print(f"do({rate.intervention}): {rate.factor} {shares}")


# --- the page of one test ---


def write_page(record: Record, pictures: Sequence[str], path: Path) -> None:
    """Write ``report.md``, the page of a test with the named figures, whole or not at all."""
    numbers = _numbers([record])
    headings, interventions = _interventions(numbers, _interval)
    pairs = select(numbers, "acm").query("factor != ''")
    matrix = [
        [f"do({name})", *map("{:.4f}".format, row["value"])]
        for name, row in pairs.groupby("intervention", sort=False)
    ]
    read = ["", *pairs["factor"].unique()]
    model = numbers[numbers["measure"].str.fullmatch("irs|(dci|graph)/.*")]
    modelled = [[row.measure, f"{row.value:.3f}"] for row in model.itertuples()]
    sections = {
        "The method and the references": _methods(numbers, _interval, "", "**this method**"),
        "By intervention": (headings, interventions[: len(matrix)]),
        "Which factor goes wrong: ACM by factor set and factor read": (read, matrix),
        "Steps of a sequence": _sequence(numbers),
        "The model itself: its code, its learned graph": (["measure", "value"], modelled),
        "What a counterfactual costs": (["", "value"], _cost(record, numbers)),
    }
    every = ["name", "value", "interval"], _every(record)
    texts = {
        title: markdown(*content).rstrip() for title, content in sections.items() if content[1]
    }
    texts |= {_CAPTIONS[name]: f"![{name}]({name}.png)" for name in pictures}
    texts |= {"All numbers, with 95% intervals": markdown(*every).rstrip()} if every[1] else {}
    parts = ["# Counterfactuals, measured", _origin(record)]
    parts += [f"## {title}\n\n{text}" for title, text in texts.items()]
    write_text("\n\n".join(parts) + "\n", path)


def _sequence(numbers: pd.DataFrame) -> Content:
    steps = [step(number) for number in _steps(numbers)["step"]]
    found = statistics(numbers, steps, "reference")
    _, rows = table_content("", {"": "ACM"}, found, steps, _interval)
    return ["", *(f"step_{column.step}" for column in steps)], rows if steps else []


def _origin(record: Record) -> str:
    origin, readers = record["provenance"], record["readers"]
    training = origin["training"]
    read = f"read by the {' and the '.join(readers)}" if readers else "not read: no reader"
    trained = "Untrained" if training is not None else "How it was trained is not known"
    if training:
        trained = f"Trained {training['seconds'] / 60:.1f} minutes on {training['device']}"
    drawn, said = sampling_text(record), caveats(record)
    return (
        f"{record['images']} held-out images, {read}; targets {_TARGETS[record['target']]}. "
        f"{f'Drawn by {drawn}. ' if drawn else ''}{trained}; tested in "
        f"{origin['evaluation_seconds'] / 60:.1f} minutes on "
        f"{origin['device']}. Seed {origin['seed']}. Brackets hold 95% bootstrap intervals over "
        f"images. {said}{' ' if said else ''}`docs/metrics.md` defines every number."
    )


def _cost(record: Record, numbers: pd.DataFrame) -> list[list[str]]:
    cost = record.get("cost")
    if cost is None:
        return []

    def shown(measure: str, parts: str, spec: str) -> str:
        found = (select(numbers, f"cost/{measure}/{part}")["value"] for part in parts.split(", "))
        return ", ".join(format(value.item(), spec) for value in found)

    evaluated, spent = "abduction, prediction, guidance", "abduction, prediction"
    return [
        ["parameters", f"{cost['parameters']:,}"],
        [f"network evaluations: {evaluated}", shown("evaluations", evaluated, ".4g")],
        [f"seconds: {spent}", shown("seconds", spent, ".4f")],
        ["peak memory so far", f"{cost['memory']:.0f} MiB"],
        ["measured on", f"{cost['device']}, {cost['images']} images at a time"],
    ]


def _every(record: Record) -> list[list[str]]:
    """All numbers, by their names in ``metrics.json``, with their intervals where known."""
    rows = []
    for key, value in record["metrics"].items():
        low, high = record["intervals"].get(key, (None, None))
        span = "" if low is None or high is None else f"{low:.5g} … {high:.5g}"
        rows.append([f"`{key}`", f"{value:.5g}", span])
    return rows


# --- parts of tables ---


def _numbers(records: Sequence[Record]) -> pd.DataFrame:
    """The long table of one method's seeds."""
    return long_table([MethodResults("", "", tuple(records))])


def _complete(numbers: pd.DataFrame, shown: Sequence[Column], by: str) -> Cells:
    """What all seeds measured."""
    found, seeds = statistics(numbers, shown, by), numbers["seed"].max() + 1
    return {place: cell for place, cell in found.items() if len(cell.values) == seeds}


def _steps(numbers: pd.DataFrame) -> pd.DataFrame:
    """ACM after each step of a sequence."""
    return select(numbers, "acm", intervention="sequence")


def _interventions(numbers: pd.DataFrame, text: Text) -> Content:
    """A row per intervened factor, then roots, leaves and the null intervention.

    Columns that nothing fills (no ruler, no exact images) are left out.
    """
    factors = select(numbers, "acm").query("factor != ''")["intervention"].unique()
    found = _complete(numbers, _BY_INTERVENTION, "intervention")
    found.pop(("null", "do nothing"), None)  # which is then the right answer
    means = [name for name in ("roots", "leaves") if (name, "ACM") in found]
    titles = {name: f"do({name})" for name in factors} | {name: f"**{name}**" for name in means}
    titles["null"] = "nothing"
    filled = {heading for name, heading in found if name in titles and name not in means}
    shown = [column for column in _BY_INTERVENTION if column.heading in filled]
    return table_content("intervention", titles, found, shown, text)


def _methods(numbers: pd.DataFrame, text: Text, corner: str, title: str) -> Content:
    """The method as a whole, and the reference methods that were measured beside."""
    found = _complete(numbers, _WHOLE, "reference")
    shown = [column for column in _WHOLE if ("", column.heading) in found]
    beside = [name for name in REFERENCES if (numbers["reference"] == name).any()]
    titles = {"": title} | {name: f"*{name.replace('_', ' ')}*" for name in beside}
    return table_content(corner, titles, found, shown, text)


def _range(found: Statistic) -> str:
    """The mean over seeds and, of several, their range."""
    span = f" [{found.text(min(found.values))}, {found.text(max(found.values))}]"
    return found.text() + (span if len(found.values) > 1 else "")


def _interval(found: Statistic) -> str:
    """A value and its interval over images, where it is known."""
    known = pd.notna(found.low) and pd.notna(found.high)
    return found.text() + (f" [{found.text(found.low)}, {found.text(found.high)}]" if known else "")


def _footnote(records: Sequence[Record], numbers: pd.DataFrame) -> str:
    growth, error, gap = columns("last / first", "rate error", "rate gap")
    last = [step(number) for number in _steps(numbers)["step"]][-1:]
    found = _complete(numbers, [growth, error, gap, *last], "reference")
    texts = {heading: _range(cell) for (name, heading), cell in found.items() if not name}
    ends = {"last / first": "last step over the first"} | {c.heading: "last step" for c in last}
    sequences = [
        f"{what}: {texts[heading]}. " for heading, what in ends.items() if heading in texts
    ]
    said = f"Sequence of interventions, ACM at the {sequences[0]}" if sequences else ""
    if error.heading in texts:
        said += f"Effects follow their cause at the true rate to within {texts[error.heading]}. "
    if gap.heading in texts:
        said += (
            f"Effects follow their cause as often as in the data to within {texts[gap.heading]}. "
        )
    trainings = [record["provenance"]["training"] for record in records]
    trained = "untrained" if None not in trainings else "how it was trained is not known"
    if all(trainings):
        minutes = " and ".join(f"{training['seconds'] / 60:.1f}" for training in trainings)
        trained = f"trained {minutes} minutes on {trainings[0]['device']}"
    images = f"{len(records)} seed(s), {records[0]['images']} held-out images each"
    about = f"{'; '.join(filter(None, [images, sampling_text(records[0]), trained]))}."
    return " ".join(filter(None, [f"{said}{about}", caveats(records[0])]))
