"""Results as one long table, a row for every number, and the columns that tables show of it.

Names of numbers in ``metrics.json``, such as ``do_nothing/acm/light``, are read here and nowhere
else (:func:`parsed`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import hypot
from statistics import fmean, stdev
from typing import Literal, NamedTuple, TypeAlias

import pandas as pd

from diffcf.causal import Dag
from diffcf.reporting.pairing import differ
from diffcf.reporting.results import MethodResults, Record

NORMAL_95 = 1.96
"""Standard errors from the mean to the end of a 95% interval."""
REFERENCES = ("exact", "do_nothing", "mirrored", "change_everything")
"""Reference methods, which are measured beside the method that is tested."""
_OF_WHOLE = {"cost", "dci", "graph", "draws"}  # what stands behind them is no factor that was set
_STEP = re.compile(r"(?:step_)?([1-9][0-9]{0,5})")


class Place(NamedTuple):
    """What a number of ``metrics.json`` is about.

    Attributes:
        reference: the reference method that was measured; empty for the tested method itself.
        reader: who read the factors; empty for the first reader at hand.
        measure: such as ``acm`` or ``cost/seconds``.
        intervention: the factor that was set; ``roots`` or ``leaves``, ``null``, ``sequence``;
            empty for the mean over all factors, and where nothing is set.
        factor: the factor that was read; empty for all.
        step: of a sequence, or the number of cycles; 0 where there is none.
    """

    reference: str = ""
    reader: str = ""
    measure: str = ""
    intervention: str = ""
    factor: str = ""
    step: int = 0


@cache  # every record has the same names
def parsed(key: str) -> Place:
    """The place of a number by its name in ``metrics.json``.

    >>> tuple(parsed("do_nothing/evaluator/acm/light/shadow"))
    ('do_nothing', 'evaluator', 'acm', 'light', 'shadow', 0)
    >>> tuple(parsed("acm/step_3")), tuple(parsed("composition/10"))
    (('', '', 'acm', 'sequence', '', 3), ('', '', 'composition', '', '', 10))
    >>> tuple(parsed("cost/seconds/abduction"))
    ('', '', 'cost/seconds/abduction', '', '', 0)
    """
    parts = key.split("/")
    reference = parts.pop(0) if parts[0] in REFERENCES and len(parts) > 1 else ""
    reader = parts.pop(0) if parts[0] == "evaluator" and len(parts) > 1 else ""
    measure, *rest = parts
    intervention, factor, step = rest[0] if rest else "", "/".join(rest[1:]), 0
    if measure in _OF_WHOLE:
        measure, intervention, factor = "/".join(parts), "", ""
    elif intervention == "step_growth":
        measure, intervention = f"{measure}_growth", "sequence"
    elif intervention == "reconstruction":
        intervention = "null"
    elif match := _STEP.fullmatch(intervention):
        intervention, step = "sequence" if "step" in intervention else "", int(match[1])
    return Place(reference, reader, measure, intervention, factor, step)


def long_table(methods: Sequence[MethodResults]) -> pd.DataFrame:
    """Every number of every record.

    Beside the fields of :class:`Place`, columns are ``method`` (its name), ``dataset``, ``seed``
    (the record's place among those of the method), ``value``, and ``low`` and ``high``, the ends of
    the 95% interval over images, if known. Rows are added for the training's seconds
    (``training/seconds``) and for means of ACM over interventions and factors by their places in
    the graph: ``intermediate``, ``set root``, ``set leaf``, ``effects``, ``others``.
    """
    rows = [
        (method.name, (record.get("benchmark") or {}).get("dataset", ""), seed, *row)
        for method in methods
        for seed, record in enumerate(method.records)
        for row in _rows(record)
    ]
    values = ["value", "low", "high"]
    names = ["method", "dataset", "seed", *Place._fields, *values]
    # Not strings of pandas: names in a file may hold what no encoding can write.
    table = pd.DataFrame(rows, columns=names, dtype=object)
    return table.astype({"seed": int, "step": int} | dict.fromkeys(values, float))


def _rows(record: Record) -> Iterator[tuple[object, ...]]:
    """Place, value, and ends of its interval."""
    origin, spans = record.get("provenance") or {}, record.get("intervals") or {}
    graph = Dag.from_dict(origin["graph"]) if origin.get("graph") else None
    grouped: dict[Place, list[float]] = {}
    for key, value in record["metrics"].items():
        place = parsed(key)
        yield *place, value, *spans.get(key, (None, None))
        if graph and place.measure == "acm" and (group := _group(graph, place)):
            mean = place._replace(intervention=group, factor="")
            grouped.setdefault(mean, []).append(value)
    for place, values in grouped.items():
        yield *place, fmean(values), None, None
    for key in ("seconds", "processor_seconds"):
        if (value := (origin.get("training") or {}).get(key)) is not None:
            yield *Place(measure=f"training/{key}"), value, None, None


def _group(graph: Dag, place: Place) -> str | None:
    """How the factor that was read is related to the one that was set."""
    cause, read = place.intervention, place.factor
    if cause not in graph.names or (read and read not in graph.names):
        return None
    if not read:
        return None if cause in (*graph.roots, *graph.leaves) else "intermediate"
    if cause == read:
        return "set root" if cause in graph.roots else "set leaf" if cause in graph.leaves else None
    return "effects" if read in graph.descendants(cause) else "others"


# --- columns ---


@dataclass(frozen=True)
class Column:
    """What a column of a table shows: numbers of a :class:`Place`, as far as rows do not name it.

    Values are multiplied by ``scale`` and written in the format ``spec``. ``better`` is which way
    is good (the best is set in bold); None where neither is.
    """

    heading: str
    measure: str
    intervention: str = ""
    spec: str = ".4f"
    better: Literal["lower", "higher"] | None = None
    reference: str = ""
    step: int = 0
    scale: float = 1.0


_COLUMNS = (
    Column("ACM roots", "acm", "roots", better="lower"),
    Column("ACM intermediate", "acm", "intermediate", better="lower"),
    Column("ACM leaves", "acm", "leaves", better="lower"),
    Column("do nothing, roots", "acm", "roots", reference="do_nothing"),
    Column("do nothing, leaves", "acm", "leaves", reference="do_nothing"),
    Column("set, a root", "acm", "set root", better="lower"),
    Column("set, a leaf", "acm", "set leaf", better="lower"),
    Column("effects", "acm", "effects", better="lower"),
    Column("the others", "acm", "others", better="lower"),
    Column("last / first", "acm_growth", "sequence", ".2f"),
    Column("PSNR roots", "psnr", "roots", ".1f", "higher"),
    Column("PSNR leaves", "psnr", "leaves", ".1f", "higher"),
    Column("PSNR exact", "psnr", "", ".1f", "higher"),
    Column("PSNR reconstruction", "psnr", "null", ".1f", "higher"),
    Column("reconstruction", "psnr", "null", ".1f", "higher"),
    Column("SSIM", "ssim"),
    Column("FID", "fid", "", ".1f", "lower"),
    Column("sFID", "sfid", "", ".1f", "lower"),
    Column("FID, floor", "fid_floor", "", ".1f"),
    Column("sFID, floor", "sfid_floor", "", ".1f"),
    Column("KID", "kid", "", ".5f", "lower"),
    Column("CLD", "cld", "", ".3f"),
    Column("composition", "composition", better="lower", step=1),
    Column("composition 1", "composition", step=1),
    Column("composition 10", "composition", step=10),
    Column("reversibility", "reversibility", better="lower"),
    Column("do and undo (dB)", "reversibility_psnr", "", ".1f", "higher"),
    Column("change", "change"),
    Column("change at the border", "border_change"),
    Column("minimality", "minimality", "", ".5f", "lower"),
    Column("DCI D", "dci/disentanglement", better="higher"),
    Column("IRS", "irs", better="higher"),
    Column("SHD", "graph/shd", "", ".1f", "lower"),
    Column("rate gap", "rate_gap", "", ".3f"),
    Column("rate error", "rate_error", "", ".3f"),
    # Of a table with a row for each intervention.
    Column("ACM", "acm"),
    Column("do nothing", "acm", reference="do_nothing"),
    Column("reads as set", "accuracy", "", ".3f"),
    Column("F1", "effectiveness_f1", "", ".3f"),
    Column("AUROC", "effectiveness_auroc", "", ".3f"),
    Column("kept", "kept", "", ".3f", "higher"),
    Column("kept, mirrored", "kept", "", ".3f", reference="mirrored"),
    Column("identity", "identity", "", ".3f", "higher"),
    Column("identity, mirrored", "identity", "", ".3f", reference="mirrored"),
    Column("PSNR to the exact counterfactual (dB)", "psnr", "", ".1f"),
    # What a method takes.
    Column("parameters (M)", "cost/parameters", "", ".2f", scale=1e-6),
    Column("training (min)", "training/seconds", "", ".1f", scale=1 / 60),
    Column("of processor (min)", "training/processor_seconds", "", ".1f", scale=1 / 60),
    Column("s / counterfactual", "cost/seconds", better="lower"),
    Column("evaluations", "cost/evaluations", "", ".4g", "lower"),
    Column("of guidance", "cost/evaluations/guidance", "", ".4g"),
    Column("memory (MiB)", "cost/memory", "", ".0f", "lower"),
    Column("time / none", "time_ratio", "", ".2f"),
    Column("ACM sequence", "acm", "sequence", better="lower"),
    Column("PSNR sequence", "psnr", "sequence", ".1f", "higher"),
)


def columns(*headings: str) -> list[Column]:
    """Columns by their headings."""
    known = {column.heading: column for column in _COLUMNS}
    return [known[heading] for heading in headings]


def step(number: int) -> Column:
    """ACM after so many interventions of a sequence."""
    return Column(f"step {number}", "acm", "sequence", better="lower", step=number)


class Statistic(NamedTuple):
    """What a cell of a table shows: the values of the seeds that measured it, and their format.

    ``low`` and ``high`` are the first seed's interval over images; NaN where it is not known.
    ``by_image`` are the seeds' scores of each image, empty where those of a seed are not known.
    """

    spec: str
    values: list[float]
    low: float
    high: float
    by_image: tuple[pd.Series[float], ...] = ()

    def text(self, value: float | None = None) -> str:
        """A value, the mean by default, in the column's format."""
        return format(fmean(self.values) if value is None else value, self.spec)

    @property
    def error(self) -> float:
        """Standard error of the mean, of the images and, where there are several, of the seeds.

        NaN where the interval over images is not known. All seeds are tested on the same images, so
        that the images' part is that of one.
        """
        count = len(self.values)
        seeds = stdev(self.values) / count**0.5 if count > 1 else 0.0
        return hypot((self.high - self.low) / (2 * NORMAL_95), seeds)

    def differs(self, other: Statistic) -> bool:
        """Whether both means as they are shown differ, and by more than their errors allow for.

        At 95%, by the scores of each image where both have them (:func:`differ`). Else as if the
        two had been tested on different images: that the images were the same makes a difference
        surer than is counted then. Without errors any difference counts.
        """
        if self.text() == other.text():
            return False
        if self.by_image and other.by_image:
            paired = differ(self.by_image, other.by_image)
            if paired is not None:
                return paired
        apart = abs(fmean(self.values) - fmean(other.values))
        return not apart <= NORMAL_95 * hypot(self.error, other.error)


Cells: TypeAlias = dict[tuple[str, str], Statistic]
"""By row and heading."""


def statistics(table: pd.DataFrame, shown: Sequence[Column], by: str) -> Cells:
    """What the columns show of a :func:`long_table`, with a row for each ``by``."""
    fields = [name for name in ("reference", "measure", "intervention", "step") if name != by]
    wanted = {tuple(getattr(column, name) for name in fields): column for column in shown}
    rows = select(table, [column.measure for column in shown], reference=None, factor="")
    found: Cells = {}
    # Without groupby and agg: their overhead would exceed the time to read the files.
    cells = zip(*(rows[name] for name in (by, "value", "low", "high", *fields)), strict=True)
    for name, value, low, high, *place in cells:
        if column := wanted.get(tuple(place)):
            new = Statistic(column.spec, [], low * column.scale, high * column.scale)
            found.setdefault((name, column.heading), new).values.append(value * column.scale)
    return found


def select(table: pd.DataFrame, measures: str | Sequence[str], **place: str | None) -> pd.DataFrame:
    """The rows of one or several measures, and of a place in the other columns; None is any.

    By default, those of the tested method itself, by the first reader.
    """
    table = table[table["measure"].isin([measures] if isinstance(measures, str) else measures)]
    for name, value in {"reference": "", "reader": "", **place}.items():
        if value is not None:
            table = table[table[name] == value]
    return table
