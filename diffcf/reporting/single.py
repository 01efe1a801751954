"""Results of one method: its tables over seeds, as printed and in texts, and the page of one test.

``docs/metrics.md`` defines what stands in them, and the fields of ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from diffcf.io import write_text
from diffcf.reporting.measures import (
    REFERENCES,
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
    display_name,
    read_record,
    sampling_text,
)
from diffcf.reporting.tables import markdown

_BY_INTERVENTION = columns(
    "ACM", "do nothing", "reads as set", "PSNR to the exact counterfactual (dB)"
)
_WHOLE = columns(
    "ACM roots", "ACM leaves", "PSNR roots", "PSNR leaves", "SSIM", "composition 1",
    "composition 10", "reversibility", "minimality", "CLD", "FID", "sFID",
)  # fmt: skip
_SUMMARY = columns(
    "ACM roots", "do nothing, roots", "ACM leaves", "do nothing, leaves", "PSNR roots",
    "PSNR leaves",
)  # fmt: skip
_ABLATED = columns(
    "ACM roots", "ACM leaves", "PSNR roots", "PSNR leaves", "reconstruction", "ACM sequence",
    "PSNR sequence", "time / none",
)  # fmt: skip
_CAPTIONS = {
    "grid": "Per sample: factual, counterfactual, exact counterfactual, and their difference.",
    "sequence": "Interventions one after another, each upon the image the last one left.",
    "dose_response": "The value set against the value read back; the line is where it should be.",
    "errors": "How far each factor reads from where it should, when it was set and when not.",
    "lambda_t": "λt along the path: the median over a batch, and where 80% of its images are.",
}
_Content = tuple[list[str], list[list[str]]]
"""Headings and rows of a table."""
_Text = Callable[[Statistic], str]


def results_table(files: Sequence[Path]) -> str:
    """Markdown of ``metrics.json`` files, one per seed.

    Cells are means over seeds, with the range in brackets where there are several.

    Raises:
        ResultsError: for a file that is missing or was not written by ``diffcf test``.
    """
    records = [read_record(Path(file)) for file in files]
    numbers = _numbers(records)
    whole = _methods(numbers, _range, "method", f"**{display_name(records[0])}**")
    tables = [markdown(*content) for content in (_interventions(numbers, _range), whole)]
    return "\n".join([*tables, _footnote(records, numbers)]) + "\n"


def summary_table(own: Mapping[str, Sequence[Path]]) -> str:
    """Markdown with a row for each dataset, of the ``metrics.json`` files of our own method."""
    rows = []
    for name, files in own.items():
        records = [read_record(file) for file in files]
        # Results from before protocols had a least change answer easier questions.
        if all("min_change" in (record.get("protocol") or {}) for record in records):
            found = _complete(_numbers(records), _SUMMARY, "method")
            title, images = {"": name.replace("_", " ")}, str(records[0]["images"])
            (cells,) = _rows(found, title, _SUMMARY, Statistic.text, missing="–")
            rows.append([*cells, images])
    return markdown(["dataset", *(column.heading for column in _SUMMARY), "images"], rows)


def ablation_markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown with a row for each variant of ``diffcf ablate``; a dash where one lacks a number.

    Args:
        rows: numbers by their names in ``metrics.json``, by variant.
    """
    variants = [MethodResults(name, name, ({"metrics": row},)) for name, row in rows.items()]
    found = statistics(long_table(variants), _ABLATED, "method")
    filled = {heading for _, heading in found}
    shown = [column for column in _ABLATED if column.heading in filled]
    cells = _rows(found, {name: name for name in rows}, shown, Statistic.text, missing="–")
    return markdown(["variant", *(column.heading for column in shown)], cells)


def print_table(metrics: Mapping[str, float]) -> None:
    """The table of one test: a row per intervened factor, roots, leaves, the null intervention."""
    numbers = _numbers([{"metrics": metrics}])
    headings, rows = _interventions(numbers, Statistic.text)
    judged = "read by the ruler against the true model" if "acm" in metrics else "no ruler: unread"
    table = Table(title=f"Counterfactuals, {judged}")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "intervention" else "right")
    for row in rows:
        table.add_row(*(cell.strip("*") for cell in row))
    Console().print(table)
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
    """Write ``report.md``, the page of a test, whole or not at all.

    Args:
        record: what ``metrics.json`` holds.
        pictures: names of the figures beside the page.
        path: the file.
    """
    write_text(page(record, pictures), path)


def page(record: Record, pictures: Sequence[str]) -> str:
    """The page of a test as markdown."""
    numbers = _numbers([record])
    headings, interventions = _interventions(numbers, _interval)
    pairs = select(numbers, "acm").query("factor != ''")
    matrix = [
        [f"do({name})", *map("{:.4f}".format, row["value"])]
        for name, row in pairs.groupby("intervention", sort=False)
    ]
    steps = [step(number) for number in _steps(numbers)["step"]]
    found = statistics(numbers, steps, "reference")
    model = numbers[numbers["measure"].str.fullmatch("irs|(dci|graph)/.*")]
    sections = [
        ("The method and the references", *_methods(numbers, _interval, "", "**this method**")),
        ("By intervention", headings, interventions[: len(matrix)]),
        (
            "Which factor goes wrong: ACM by factor set and factor read",
            ["", *pairs["factor"].unique()],
            matrix,
        ),
        (
            "Steps of a sequence",
            ["", *(f"step_{column.step}" for column in steps)],
            _rows(found, {"": "ACM"}, steps, _interval) if steps else [],
        ),
        (
            "The model itself: its code, its learned graph",
            ["measure", "value"],
            [[row.measure, f"{row.value:.3f}"] for row in model.itertuples()],
        ),
        ("What a counterfactual costs", ["", "value"], _cost(record, numbers)),
    ]
    every = ("All numbers, with 95% intervals", ["name", "value", "interval"], _every(record))
    parts = [
        "# Counterfactuals, measured",
        _origin(record),
        *(_section(*section) for section in sections if section[-1]),
        *(f"## {_CAPTIONS[name]}\n\n![{name}]({name}.png)" for name in pictures),
        *(_section(*section) for section in [every] if section[-1]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"## {title}\n\n{markdown(headings, rows)}".rstrip()


def _origin(record: Record) -> str:
    origin, readers = record["provenance"], record["readers"]
    training = origin["training"]
    read = f"read by the {' and the '.join(readers)}" if readers else "not read: no reader"
    trained = "Untrained"
    if training:
        trained = f"Trained {training['seconds'] / 60:.1f} minutes on {training['device']}"
    drawn = sampling_text(record)
    return (
        f"{record['images']} held-out images, {read}; targets by the "
        f"{'true' if record['target'] == 'scene' else 'learned'} causal model. "
        f"{f'Drawn by {drawn}. ' if drawn else ''}{trained}; tested in "
        f"{origin['evaluation_seconds'] / 60:.1f} minutes on "
        f"{origin['device']}. Seed {origin['seed']}. Brackets hold 95% bootstrap intervals over "
        "images. `docs/metrics.md` defines every number."
    )


def _cost(record: Record, numbers: pd.DataFrame) -> list[list[str]]:
    cost = record.get("cost")
    if cost is None:
        return []

    def shown(measure: str, parts: str, spec: str) -> list[str]:
        found = (select(numbers, f"cost/{measure}/{part}")["value"] for part in parts.split(", "))
        return [f"{measure}: {parts}", ", ".join(format(value.item(), spec) for value in found)]

    evaluations = shown("evaluations", "abduction, prediction, guidance", ".4g")
    return [
        ["parameters", f"{cost['parameters']:,}"],
        [f"network {evaluations[0]}", evaluations[1]],
        shown("seconds", "abduction, prediction", ".4f"),
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


def _complete(
    numbers: pd.DataFrame, shown: Sequence[Column], by: str
) -> dict[tuple[str, str], Statistic]:
    """What all seeds measured."""
    found, seeds = statistics(numbers, shown, by), numbers["seed"].max() + 1
    return {place: cell for place, cell in found.items() if cell.seeds == seeds}


def _steps(numbers: pd.DataFrame) -> pd.DataFrame:
    """ACM after each step of a sequence."""
    return select(numbers, "acm", intervention="sequence")


def _interventions(numbers: pd.DataFrame, text: _Text) -> _Content:
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
    return ["intervention", *(c.heading for c in shown)], _rows(found, titles, shown, text)


def _methods(numbers: pd.DataFrame, text: _Text, corner: str, title: str) -> _Content:
    """The method as a whole, and the reference methods that were measured beside."""
    found = _complete(numbers, _WHOLE, "reference")
    shown = [column for column in _WHOLE if ("", column.heading) in found]
    beside = [name for name in REFERENCES if (numbers["reference"] == name).any()]
    titles = {"": title} | {name: f"*{name.replace('_', ' ')}*" for name in beside}
    return [corner, *(c.heading for c in shown)], _rows(found, titles, shown, text)


def _rows(
    found: Mapping[tuple[str, str], Statistic],
    titles: Mapping[str, str],
    shown: Sequence[Column],
    text: _Text,
    missing: str = "",
) -> list[list[str]]:
    """A row for each title."""
    return [
        [
            title,
            *(
                text(found[name, c.heading]) if (name, c.heading) in found else missing
                for c in shown
            ),
        ]
        for name, title in titles.items()
    ]


def _range(found: Statistic) -> str:
    """The mean over seeds and, of several, their range."""
    span = f" [{found.text(found.least)}, {found.text(found.greatest)}]"
    return found.text() + (span if found.seeds > 1 else "")


def _interval(found: Statistic) -> str:
    """A value and its interval over images, where it is known."""
    known = pd.notna(found.low) and pd.notna(found.high)
    return found.text() + (f" [{found.text(found.low)}, {found.text(found.high)}]" if known else "")


def _footnote(records: Sequence[Record], numbers: pd.DataFrame) -> str:
    growth, error = columns("last / first", "rate error")
    last = [step(number) for number in _steps(numbers)["step"]][-1:]
    found = _complete(numbers, [growth, error, *last], "reference")
    texts = {heading: _range(cell) for (name, heading), cell in found.items() if not name}
    said = ""
    if growth.heading in texts:
        said = f"last step over the first: {texts[growth.heading]}. "
    elif last and last[0].heading in texts:
        said = f"last step: {texts[last[0].heading]}. "
    said = said and f"Sequence of interventions, ACM at the {said}"
    if error.heading in texts:
        said += f"Effects follow their cause at the true rate to within {texts[error.heading]}. "
    trainings = [record["provenance"]["training"] for record in records]
    trained = "untrained"
    if all(trainings):
        minutes = " and ".join(f"{training['seconds'] / 60:.1f}" for training in trainings)
        trained = f"trained {minutes} minutes on {trainings[0]['device']}"
    images = f"{len(records)} seed(s), {records[0]['images']} held-out images each"
    return f"{said}{'; '.join(filter(None, [images, sampling_text(records[0]), trained]))}."
