"""``diffcf graph pendulum --out graph.png``: the causal graph and its mechanisms, to look at.

Of a shipped name, a checkpoint or a weights file, the graph and what its NSCM has learned: how each
factor follows from its causes, and how strong every edge is. Of the YAML of an experiment or of a
graph, the graph alone; with ``--learn true`` an NSCM first learns the free edges from the training
table of an experiment. ``--out`` draws the graph (PNG, SVG, PDF), or writes it for Graphviz (DOT)
or as a graph file (YAML).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from diffcf.api import load
from diffcf.causal import NSCM, CausalGraph, EdgeCurve, edge_curves
from diffcf.io import GraphError, YamlError, check_new, load_yaml, write_text
from diffcf.reporting import graph_figure, save_figure
from diffcf.training import GraphLearning, learn_graph, load_data

YAML = (".yaml", ".yml")
DRAWN = (".png", ".svg", ".pdf")
SHOWN = 5  # values of a continuous cause in the printed table


def graph(args: Sequence[str]) -> None:
    """Command ``diffcf graph``; ``--help`` lists the arguments."""
    parser = ArgumentParser(prog="diffcf graph", description="Show a causal graph.")
    parser.add_argument("source", type=str, help="Shipped name, checkpoint, weights file or YAML.")
    written = (*DRAWN, ".dot", *YAML)
    parser.add_argument("--out", type=Path, help=f"File to write: {', '.join(written)}.")
    parser.add_argument("--do", action="append", type=str, help="Factor that is set; repeatable.")
    learn = "Learn the free edges from the training table of the experiment SOURCE."
    parser.add_argument("--learn", type=bool, default=False, help=learn)
    how = "How they are learned."
    parser.add_argument("--learning", type=GraphLearning, default=GraphLearning(), help=how)
    parsed = parser.parse_args(list(args))
    if parsed.out is not None and parsed.out.suffix.lower() not in written:
        raise GraphError(f"{parsed.out} ends in none of {', '.join(written)}.")
    if parsed.out is not None and parsed.out.suffix.lower() in YAML:
        check_new(parsed.out)  # it may be the graph that people wrote
    learning = parser.instantiate_classes(parsed).learning if parsed.learn else None
    found, nscm, note = _read(parsed.source, learning)
    do = parsed.do or []
    for name in do:
        found.column(name)
    curves = edge_curves(nscm) if nscm is not None else []
    _show(found, curves, note)
    if parsed.out is None:
        return
    if parsed.out.suffix.lower() in YAML:
        write_text(found.to_yaml(), parsed.out)
    elif parsed.out.suffix.lower() == ".dot":
        write_text(as_dot(found, curves, do), parsed.out)
    else:
        save_figure(graph_figure(found, curves, do), parsed.out)
    print(f"The graph is {parsed.out}")


def _read(source: str, learning: GraphLearning | None) -> tuple[CausalGraph, NSCM | None, str]:
    """The graph, the NSCM where there is one, and what to say of its mechanisms."""
    path = Path(source)
    if learning is not None:
        learned = _learned(path, learning)
        return learned.learned(), learned, ""
    if path.suffix.lower() in YAML:
        return _of_yaml(path), None, "A YAML file has no trained mechanisms."
    module: Any = load(source).module
    nscm = getattr(module, "nscm", None)
    if not isinstance(nscm, NSCM):
        kind = type(module).__name__
        return module.graph, None, f"{kind} keeps its mechanisms in latents, not in an NSCM."
    return nscm.learned(), nscm, ""


def _learned(path: Path, learning: GraphLearning) -> NSCM:
    """An NSCM that has learned the graph of an experiment's data from their training table."""
    if _is_graph(path):
        raise GraphError(f"{path} is a graph without a table: name the YAML of an experiment.")
    data = load_data(path)
    data.prepare_data()
    data.setup()
    return learn_graph(data.graph, data.factors_of("train"), learning)


def _of_yaml(path: Path) -> CausalGraph:
    """The graph of a graph file, or of the data module that an experiment names."""
    return CausalGraph.from_yaml(path) if _is_graph(path) else load_data(path).graph


def _is_graph(path: Path) -> bool:
    """Whether a YAML file is a graph, and not an experiment; GraphError where it is no YAML."""
    try:
        spec = load_yaml(path) if path.is_file() else None
    except YamlError as error:
        raise GraphError(f"{path} is not valid YAML: {error}.") from None
    return isinstance(spec, dict) and "factors" in spec


# --- text ---


def _show(found: CausalGraph, curves: Sequence[EdgeCurve], note: str) -> None:
    console = Console()
    table = Table(title="Factors in causal order")
    for heading in ("factor", "kind", "range", "causes", "effects"):
        table.add_column(heading)
    for name in found.order:
        factor = found.factors[found.column(name)]
        around = (", ".join(n) or "–" for n in (found.parents(name), found.children(name)))
        table.add_row(name, factor.kind, factor.domain, *around)
    console.print(table)
    for what, edges in (("Known", found.known), ("Forbidden", found.forbidden)):
        if edges:
            listed = ", ".join(f"{cause} → {effect}" for cause, effect in edges)
            console.print(f"{what}: {listed}", highlight=False, soft_wrap=True)
    if note:
        console.print(note, highlight=False)
    if curves:
        console.print(_strengths(found, curves))
    for edge in curves:
        console.print(_mechanism(found, edge))


def _strengths(found: CausalGraph, curves: Sequence[EdgeCurve]) -> Table:
    table = Table(title="Edges: mean change of the effect, over its range, by the cause")
    for heading in ("edge", "low to high", "at most"):
        table.add_column(heading, justify="left" if heading == "edge" else "right")
    learned = any(edge.probability is not None for edge in curves)
    if learned:
        table.add_column("probability", justify="right")
    for edge in curves:
        cells = [f"{edge.strength:.3f}", f"{edge.greatest:.3f}"]
        if learned:
            is_known = (edge.cause, edge.effect) in found.known
            cells.append("known" if is_known else f"{edge.probability:.3f}")
        table.add_row(f"{edge.cause} → {edge.effect}", *cells)
    return table


def _mechanism(found: CausalGraph, edge: EdgeCurve) -> Table:
    """Rows: some values of the cause; columns: quantiles or probabilities of the effect."""
    cause, effect = (found.factors[found.column(name)] for name in (edge.cause, edge.effect))
    table = Table(title=f"{effect.name} by {cause.name}, other causes held")
    levels = effect.categories or ("0", "1")
    quantiles = ("10%", "median", "90%")
    headings = quantiles if effect.continuous else [f"P({level})" for level in levels]
    for heading in (cause.name, *headings):
        table.add_column(heading, justify="right")
    chosen = torch.arange(len(edge.values))
    if cause.continuous:
        chosen = torch.linspace(0, len(edge.values) - 1, SHOWN).round().long()
    for row in chosen.tolist():
        value = cause.text(float(edge.values[row]))
        response = edge.response[row].tolist()
        shown = [effect.text(v) if effect.continuous else f"{v:.3f}" for v in response]
        table.add_row(value, *shown)
    return table


def as_dot(found: CausalGraph, curves: Sequence[EdgeCurve] = (), do: Sequence[str] = ()) -> str:
    """The graph in Graphviz' language; edges that ``do`` cuts are dashed, known ones say so."""
    by_edge = {(edge.cause, edge.effect): edge for edge in curves}
    lines = ["digraph causes {", "  rankdir=TB; node [shape=box, style=rounded];"]
    lines += [f'  "{name}"{" [penwidth=2]" if name in do else ""};' for name in found.names]
    for cause, effect in found.edges:
        parts = ["style=dashed"] if effect in do else []
        edge, is_known = by_edge.get((cause, effect)), (cause, effect) in found.known
        labels = [f"{edge.strength:.2f}"] if edge is not None else []
        labels += ["known"] if is_known else []
        parts += [f'label="{", ".join(labels)}"'] if labels else []
        attributes = f" [{', '.join(parts)}]" if parts else ""
        lines.append(f'  "{cause}" -> "{effect}"{attributes};')
    return "\n".join([*lines, "}"]) + "\n"
