"""Start an experiment on your own images: ``diffcf new mine.yaml --images FOLDER --table FILE``.

Writes the experiment, a preset with your paths in it, and, where no graph is named or the one that
is named does not exist yet, a graph of the table's columns: factors with the kinds and ranges that
their cells suggest, and no edges. Nothing is overwritten.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from jsonargparse import ArgumentParser

from data_modules.columns import INTERVENED
from data_modules.guessing import factor_columns, guess_factors
from diffcf.causal import CausalGraph
from diffcf.commands.new_experiment.texts import SPLIT, experiment_text, graph_text, runs_of
from diffcf.io import (
    DataError,
    OutputError,
    UnusableImage,
    check_writable,
    image_names,
    read_header,
    read_picture,
    read_table,
    resolve_names,
    whole_file,
)

IMAGE = "image"
LOOKED_AT = 8  # images, to tell grey from colour
NO_FACTORS = (SPLIT, INTERVENED)
"""Columns that are no factors unless a graph says so."""


def new(args: Sequence[str]) -> None:
    """Command ``diffcf new``; ``--help`` lists the arguments.

    Raises:
        OutputError: where the experiment exists already, or cannot be written.
        DataError: for a folder or table that is missing, a table without a column ``image`` or
            without one that could be a factor, and a graph whose factors have no column.
        GraphError: for a graph that cannot be read.
    """
    config = _parser().parse_args(list(args))
    experiment, images, table = config.experiment, config.images, config.table
    graph_file = config.graph or experiment.parent / "graph.yaml"
    _check_outputs(experiment, graph_file)
    columns = _columns(table)
    channels = _channels(images, table)
    texts = {}
    if os.path.lexists(graph_file):
        graph = _own_graph(graph_file, table, columns)
    else:
        graph, texts[graph_file] = _guessed_graph(table, columns)
    split = columns.get(SPLIT) == SPLIT and SPLIT not in graph.names
    renamed = {name: columns[name] for name in graph.names if columns[name] != name}
    paths = (experiment, images, table, graph_file)
    texts[experiment] = experiment_text(*paths, split, renamed, channels)
    _write(texts)
    print(_summary(experiment, images, graph, texts))


def _parser() -> ArgumentParser:
    about = "Start an experiment on your own images."
    parser = ArgumentParser(prog="diffcf new", description=about)
    parser.add_argument("experiment", type=Path, help="YAML to write.")
    parser.add_argument("--images", type=Path, required=True, help="Folder of the images.")
    table = "CSV or Parquet: a column `image` of file names, and one for each factor."
    parser.add_argument("--table", type=Path, required=True, help=table)
    graph = "Its YAML, default graph.yaml beside the experiment; written where there is none."
    parser.add_argument("--graph", type=Path, help=graph)
    return parser


def _check_outputs(experiment: Path, graph: Path) -> None:
    if os.path.abspath(experiment) == os.path.abspath(graph):
        raise OutputError(f"{graph} cannot be experiment and graph at once: name another --graph.")
    if os.path.lexists(experiment):
        raise OutputError(f"{experiment} exists already: remove it, or name another file.")
    check_writable(experiment)
    if not os.path.lexists(graph):
        check_writable(graph)


def _columns(table: Path) -> dict[str, str]:
    """The columns besides that of the images, each by the name that its factor would have."""
    headings = read_header(table)
    if IMAGE not in headings:
        raise DataError(
            f"Table {table} has no column '{IMAGE}', only {', '.join(filter(None, headings))}: "
            "give the column of the file names that heading."
        )
    return factor_columns([heading for heading in headings if heading != IMAGE])


def _channels(folder: Path, table: Path) -> int:
    """1 where the images looked at are all grey, else 3; DataError where there are no images."""
    if not folder.is_dir():
        raise DataError(f"Image folder {folder} does not exist: check the path.")
    rows = read_table(table, [IMAGE])
    origin = [rows.origin(place) for place in range(len(rows))]
    names = resolve_names(folder, image_names(rows, IMAGE, folder), origin)
    files = [folder / name for name in names if (folder / name).is_file()]
    if not files:
        raise DataError(
            f"None of the {len(names):,} images that {table} names exists, such as "
            f"{folder / names[0]} ({origin[0]}): check the folder."
        )
    modes = set()
    for file in files[:: max(len(files) // LOOKED_AT, 1)]:
        try:
            modes.add(read_picture(file).mode)
        except UnusableImage:  # may need settings that the experiment will have; or `data` tells
            continue
    return 1 if modes == {"L"} else 3


def _guessed_graph(path: Path, columns: Mapping[str, str]) -> tuple[CausalGraph, str]:
    """A graph without edges of a table's columns, and the text of its file."""
    columns = {name: column for name, column in columns.items() if column not in NO_FACTORS}
    if not columns:
        raise DataError(f"Table {path} has no column of a factor: add one for each factor.")
    table = read_table(path, list(columns.values()))
    factors, left_out = guess_factors(table, columns)
    reasons = {columns[name]: reason for name, reason in left_out.items()}
    if not factors:
        reason = "; ".join(f"{column}: {why}" for column, why in reasons.items())
        raise DataError(f"Table {path} has no column that can be a factor ({reason}): add one.")
    return CausalGraph(factors), graph_text(path, factors, reasons)


def _own_graph(path: Path, table: Path, columns: Mapping[str, str]) -> CausalGraph:
    """The graph of a file, whose factors must all have a column."""
    graph = CausalGraph.from_yaml(path)
    for name in graph.names:
        if name not in columns:
            raise DataError(
                f"Factor '{name}' of {path} has no column in {table}, whose columns make the "
                f"factors {', '.join(columns)}: rename one, or name another file by --graph."
            )
    return graph


def _write(texts: Mapping[Path, str]) -> None:
    """All of the files, or none where one cannot be written."""
    with ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(whole_file(path)).write_text(text, encoding="utf-8")


def _summary(experiment: Path, images: Path, graph: CausalGraph, written: Collection[Path]) -> str:
    """What was written, and what to do next."""
    lines = [f"{path} is written." for path in written if path != experiment]
    lines = [f"{line} Its factors are guessed and it has no edges: correct it." for line in lines]
    factor, runs = graph.factors[0], runs_of(experiment)
    asked = ["--do", f"{factor.name}={factor.text(1.0)}", "--out", runs / "answers"]
    commands = [
        ["data", experiment],
        ["fit", "--config", experiment],
        ["counterfactual", runs / "last.ckpt", images, *asked],
    ]
    shown = [f"  diffcf {shlex.join(map(str, words))}" for words in commands]
    return "\n".join([f"{experiment} is written.", *lines, "Next:", *shown])
