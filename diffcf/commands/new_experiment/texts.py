"""The texts that ``diffcf new`` writes: an experiment and a graph, with comments."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from textwrap import indent, wrap

import yaml

from diffcf.causal import Factor

PRESET = Path(__file__).parent / "own_data.yaml"
SPLIT = "split"
WIDTH = 96  # of comments


def experiment_text(
    experiment: Path,
    images: Path,
    table: Path,
    graph: Path,
    split: bool = True,
    columns: Mapping[str, str] | None = None,
    channels: int = 3,
) -> str:
    """The preset for one's own data, with its paths; all as they are given.

    Args:
        experiment: the file that will hold the text; results go to ``runs/<its stem>``.
        images, table, graph: what it is about.
        split: whether the table has a column :data:`SPLIT`.
        columns: the column of each factor, where it has another name.
        channels: of the images.
    """
    runs = runs_of(experiment)
    lines = [f"split_column: {SPLIT}  # train, val, test; leave out for a random split"]
    if not split:
        lines = [f"# split_column: {SPLIT}  # train, val, test; without it a random split"]
    if columns:
        lines.append(f"columns: {{{', '.join(f'{k}: {scalar(v)}' for k, v in columns.items())}}}")
    return Template(PRESET.read_text(encoding="utf-8")).substitute(
        experiment=_word(experiment),
        checkpoint=_word(runs / "last.ckpt"),
        images=scalar(images),
        table=scalar(table),
        graph=scalar(graph),
        columns="\n    ".join(lines),
        channels=channels,
        runs=scalar(runs),
    )


def graph_text(table: Path, factors: Sequence[Factor], left_out: Mapping[str, str]) -> str:
    """A graph file of factors without edges; ``left_out`` says by heading why a column is none."""
    lines = _comment(
        f"Guessed from {table} by `diffcf new`: correct kinds and ranges, and delete what is no "
        "factor of the images. No value of the table may lie outside its factor's range. Cells "
        "such as NA and none are missing labels, unless they are listed as categories."
    )
    lines.append("factors:")
    lines += [f"  {scalar(factor.name)}: {_described(factor)}" for factor in factors]
    if left_out:
        lines += _comment("Left out:")
        for heading, reason in left_out.items():
            lines += _comment(f"{heading}: {reason}.", "#   ")
    cause, effect = ([factor.name for factor in factors] + ["effect"])[:2]
    lines += _comment(
        "Pairs of a cause and its effect. Without edges nothing follows from anything: an "
        "intervention moves the factor that it sets and no other. Edges are written like this:"
    )
    lines += ["# edges:", f"# - [{cause}, {effect}]", "edges: []"]
    return "\n".join(lines) + "\n"


def runs_of(experiment: Path) -> Path:
    """The folder of an experiment's results."""
    return Path("runs") / experiment.stem


def scalar(value: object) -> str:
    """A text or number as YAML has it, also inside brackets and braces; texts keep being texts."""
    listed = [str(value) if isinstance(value, Path) else value]
    dumped = yaml.safe_dump(listed, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return str(dumped).strip()[1:-1]


def _described(factor: Factor) -> str:
    """The description of a factor, without what is understood by itself."""
    if factor.kind == "binary":
        return "{kind: binary}"
    if factor.kind == "categorical":
        return f"{{kind: categorical, categories: [{', '.join(map(scalar, factor.categories))}]}}"
    if factor.kind == "integer":
        return f"{{kind: integer, range: [{factor.low:.0f}, {factor.high:.0f}]}}"
    return f"{{range: [{factor.low!r}, {factor.high!r}]}}"


def _comment(text: str, start: str = "# ") -> list[str]:
    """Lines of a comment, whatever the text has."""
    plain = " ".join(text.split())
    return indent("\n".join(wrap(plain, WIDTH, break_on_hyphens=False)), start).splitlines()


def _word(path: Path) -> str:
    """A path as a shell takes it, in one line."""
    return " ".join(shlex.quote(str(path)).splitlines())
