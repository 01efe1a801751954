"""The columns of tables that compare methods: what is read off a record."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product
from statistics import mean

from diffcf.causal import CausalGraph
from diffcf.reporting.content import Column, metric
from diffcf.reporting.results import Record

_STEP = re.compile(r"acm/step_[0-9]{1,6}")


def quality() -> list[Column]:
    """How good counterfactuals are, in all."""
    return [
        Column("ACM roots", metric("acm/roots"), ".4f", "lower"),
        Column("ACM intermediate", _intermediate, ".4f", "lower"),
        Column("ACM leaves", metric("acm/leaves"), ".4f", "lower"),
        Column("PSNR exact", metric("psnr"), ".1f", "higher"),
        Column("FID", metric("fid"), ".1f", "lower"),
        Column("sFID", metric("sfid"), ".1f", "lower"),
        Column("PSNR reconstruction", metric("psnr/reconstruction"), ".1f", "higher"),
        Column("composition", metric("composition/1"), ".4f", "lower"),
        Column("minimality", metric("minimality"), ".5f", "lower"),
    ]


def parts() -> list[Column]:
    """Of what the error consists: how far the factor that is set is from the value it was set to,
    how far its effects are from what it causes, and how far the other factors are moved."""
    return [
        Column(
            "set, a root", _over(lambda graph, i, k: i == k and i in graph.roots), ".4f", "lower"
        ),
        Column(
            "set, a leaf", _over(lambda graph, i, k: i == k and i in graph.leaves), ".4f", "lower"
        ),
        Column("effects", _over(lambda graph, i, k: k in graph.descendants(i)), ".4f", "lower"),
        Column(
            "the others",
            _over(lambda graph, i, k: k != i and k not in graph.descendants(i)),
            ".4f",
            "lower",
        ),
    ]


def _over(chosen: Callable[[CausalGraph, str, str], bool]) -> Callable[[Record], float | None]:
    """Mean error over the chosen pairs of a factor that was set and one that is read."""

    def read(record: Record) -> float | None:
        graph, metrics = _graph(record), record["metrics"]
        pairs = product(graph.names, graph.names) if graph else ()
        keys = [f"acm/{i}/{k}" for i, k in pairs if graph and chosen(graph, i, k)]
        values = [metrics[key] for key in keys if key in metrics]
        return mean(values) if values else None

    return read


def sequence(records: Sequence[Record]) -> list[Column]:
    """ACM by step; growth has no better: who errs much from the start grows little."""
    keys = {key for record in records for key in record["metrics"]}
    steps = sorted(int(k.removeprefix("acm/step_")) for k in keys if _is_step(k))
    columns = [Column(f"step {n}", metric(f"acm/step_{n}"), ".4f", "lower") for n in steps]
    growth = Column("last / first", metric("acm/step_growth"), ".2f")
    return [*columns, growth] if columns else []


def _is_step(key: str) -> bool:
    return _STEP.fullmatch(key) is not None


def cost() -> list[Column]:
    """What a method takes."""
    return [
        Column("parameters (M)", _scaled(metric("cost/parameters"), 1e-6), ".2f"),
        Column("training (min)", _scaled(_trained("seconds"), 1 / 60), ".1f"),
        Column("of processor (min)", _scaled(_trained("processor_seconds"), 1 / 60), ".1f"),
        Column("s / counterfactual", metric("cost/seconds"), ".4f", "lower"),
        Column("evaluations", metric("cost/evaluations"), ".4g", "lower"),
        Column("of guidance", metric("cost/evaluations/guidance"), ".4g"),
        Column("memory (MiB)", metric("cost/memory"), ".0f", "lower"),
    ]


def _trained(key: str) -> Callable[[Record], float | None]:
    return lambda record: record["provenance"]["training"].get(key)


def _scaled(read: Callable[[Record], float | None], factor: float) -> Callable[..., float | None]:
    def scaled(record: Record) -> float | None:
        value = read(record)
        return None if value is None else value * factor

    return scaled


def _intermediate(record: Record) -> float | None:
    """Mean ACM over the factors that are neither root nor leaf."""
    graph = _graph(record)
    if graph is None:
        return None
    inner = set(graph.names) - set(graph.roots) - set(graph.leaves)
    values = [v for n in sorted(inner) if (v := record["metrics"].get(f"acm/{n}")) is not None]
    return mean(values) if values else None


def _graph(record: Record) -> CausalGraph | None:
    """None for records of old."""
    described = record["provenance"].get("graph")
    return CausalGraph.from_dict(described) if described else None
