"""``report.md``: one test on one page, with tables, intervals and pictures.

``docs/metrics.md`` defines what stands in it, and the fields of ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from diffcf.evaluation import Answered, CounterfactualEvaluation
from diffcf.io import write_text
from diffcf.reporting.figures.curves import dose_response, error_histograms, strength_curve
from diffcf.reporting.figures.pictures import counterfactual_grid, sequence_strips
from diffcf.reporting.results import sampling_text
from diffcf.reporting.single import COLUMNS, WHOLE, intervened, markdown, references

CAPTIONS = {
    "grid": "Per sample: factual, counterfactual, exact counterfactual, and their difference.",
    "sequence": "Interventions one after another, each upon the image the last one left.",
    "dose_response": "The value set against the value read back; the line is where it should be.",
    "errors": "How far each factor reads from where it should, when it was set and when not.",
    "lambda_t": "λt along the path: the median over a batch, and where 80% of its images are.",
}


def figures_of(
    evaluation: CounterfactualEvaluation, answered: Answered | None, samples: int
) -> dict[str, Figure]:
    """Every picture of a test by name; every process has to call it, since errors are gathered."""
    figures: dict[str, Figure] = {}
    graph = evaluation.graph
    if answered is not None:
        figures["grid"] = counterfactual_grid(answered, graph, samples)
        if answered.sequence:
            figures["sequence"] = sequence_strips(answered, graph, samples)
    for reading in evaluation.scores[""].readings[:1]:
        figures["dose_response"] = dose_response(reading.effectiveness.gathered(), graph)
        figures["errors"] = error_histograms(reading.acm.gathered(), graph)
    if evaluation.traces:
        figures["lambda_t"] = strength_curve(evaluation.traces)
    return figures


def write_page(record: Mapping[str, Any], pictures: Sequence[str], path: Path) -> None:
    """Write the page whole or not at all; ``record`` is what ``metrics.json`` holds."""
    write_text(page(record, pictures), path)


def page(record: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The page of a test as markdown."""
    metrics, spans = record["metrics"], record["intervals"]
    parts = [
        "# Counterfactuals, measured",
        _origin(record),
        *_section("The method and the references", *_methods(metrics, spans)),
        *_section("By intervention", *_interventions(metrics, spans)),
        *_section("Which factor goes wrong: ACM by factor set and factor read", *_matrix(metrics)),
        *_section("Steps of a sequence", *_steps(metrics, spans)),
        *_section("The model itself: its code, its learned graph", *_model(metrics)),
        *_section("What a counterfactual costs", *_cost(record)),
        *[f"## {CAPTIONS[name]}\n\n![{name}]({name}.png)" for name in pictures],
        *_section("All numbers, with 95% intervals", *_all(metrics, spans)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(record: Mapping[str, Any]) -> str:
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


def _section(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"## {title}\n\n{markdown(headings, rows)}".rstrip()] if rows else []


Content = tuple[Sequence[str], list[list[str]]]


def _methods(metrics: Mapping[str, float], spans: Mapping[str, Any]) -> Content:
    columns = {k: v for k, v in WHOLE.items() if v[0] in metrics}
    rows = []
    for name in ["", *references(metrics)]:
        prefix = f"{name}/" if name else ""
        cells = [_cell(metrics, spans, prefix + key, spec) for key, spec in columns.values()]
        rows.append([f"*{name.replace('_', ' ')}*" if name else "**this method**", *cells])
    return ["", *columns], rows if columns else []


def _interventions(metrics: Mapping[str, float], spans: Mapping[str, Any]) -> Content:
    columns = {
        title: (key, spec)
        for title, (key, spec) in COLUMNS.items()
        if any(key.format(name) in metrics for name in intervened(metrics))
    }
    rows = [
        [f"do({n})", *(_cell(metrics, spans, k.format(n), spec) for k, spec in columns.values())]
        for n in intervened(metrics)
    ]
    return ["intervention", *columns], rows


def _matrix(metrics: Mapping[str, float]) -> Content:
    names = intervened(metrics)
    read = [k.split("/")[2] for k in metrics if names and k.startswith(f"acm/{names[0]}/")]
    rows = [[f"do({n})", *(f"{metrics[f'acm/{n}/{other}']:.4f}" for other in read)] for n in names]
    return ["", *read], rows


def _steps(metrics: Mapping[str, float], spans: Mapping[str, Any]) -> Content:
    keys = [k for k in metrics if k.startswith("acm/step_") and k[-1].isdigit()]
    row = [_cell(metrics, spans, key, ".4f") for key in keys]
    return ["", *(key.removeprefix("acm/") for key in keys)], [["ACM", *row]] if keys else []


def _model(metrics: Mapping[str, float]) -> Content:
    keys = [k for k in metrics if k == "irs" or k.startswith(("dci/", "graph/"))]
    return ["measure", "value"], [[key, f"{metrics[key]:.3f}"] for key in keys]


def _cost(record: Mapping[str, Any]) -> Content:
    cost, metrics = record.get("cost"), record["metrics"]
    if cost is None:
        return [], []
    parts = ("abduction", "prediction")
    evaluations = [f"{metrics[f'cost/evaluations/{part}']:.4g}" for part in (*parts, "guidance")]
    seconds = [f"{metrics[f'cost/seconds/{part}']:.4f}" for part in parts]
    rows = [
        ["parameters", f"{cost['parameters']:,}"],
        ["network evaluations: abduction, prediction, guidance", ", ".join(evaluations)],
        ["seconds: abduction, prediction", ", ".join(seconds)],
        ["peak memory so far", f"{cost['memory']:.0f} MiB"],
        ["measured on", f"{cost['device']}, {cost['images']} images at a time"],
    ]
    return ["", "value"], rows


def _all(metrics: Mapping[str, float], spans: Mapping[str, Any]) -> Content:
    rows = []
    for key, value in metrics.items():
        low, high = spans.get(key, (None, None))
        span = "" if low is None or high is None else f"{low:.5g} … {high:.5g}"
        rows.append([f"`{key}`", f"{value:.5g}", span])
    return ["name", "value", "interval"], rows


def _cell(metrics: Mapping[str, float], spans: Mapping[str, Any], key: str, spec: str) -> str:
    """A value and its interval; empty where it was not measured."""
    if key not in metrics:
        return ""
    low, high = spans.get(key, (None, None))
    span = "" if low is None or high is None else f" [{low:{spec}}, {high:{spec}}]"
    return f"{metrics[key]:{spec}}{span}"
