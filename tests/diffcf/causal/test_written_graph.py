"""Graph files say what stands in them: names and categories are texts, ranges plain numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import FUZZ

from diffcf.causal.factor import Factor
from diffcf.causal.graph import CausalGraph
from diffcf.commands.main import main
from diffcf.io.errors import GraphError
from diffcf.training.cli import cli
from diffcf.training.datasets import load_data

# What YAML reads as something else than the letters that stand there.
LISTS = {
    "truths": ["yes", "no", "on", "off", "Yes", "y", "n", "true", "False"],
    "numbers": ["01", "02", "010", "1e3", "1_000", "0x10", ".inf", ".5", "1.50", "+1", "1:30"],
    "nothings": ["null", "~", "None", "NULL"],
    "dates": ["2020-01-01", "2001-12-14t21:59:43.10-05:00", "2001-99-99"],
}


def _graph(tmp_path: Path, text: str) -> CausalGraph:
    path = tmp_path / "graph.yaml"
    path.write_text(text, encoding="utf-8")
    return CausalGraph.from_yaml(path)


@pytest.mark.parametrize("name", LISTS)
def test_categories_are_as_written(tmp_path: Path, name: str) -> None:
    words = LISTS[name]
    quoted = ", ".join(f"'{word}'" for word in words)
    for listed in (", ".join(words), quoted):
        graph = _graph(tmp_path, f"factors: {{a: {{categories: [{listed}]}}}}\n")
        assert list(graph.factors[0].categories) == words
    again = _graph(tmp_path, yaml.safe_dump(graph.to_dict()))
    assert again == graph, "also as our own files write them"


def test_names_are_as_written(tmp_path: Path) -> None:
    words = ["on", "off", "yes", "no", "y", "n", "null", "true"]
    factors = "".join(f"  {word}: {{kind: binary}}\n" for word in words)
    graph = _graph(tmp_path, f"factors:\n{factors}edges:\n  - [on, off]\n  - [yes, no]\n")
    assert graph.names == tuple(words) and graph.edges == (("on", "off"), ("yes", "no"))


@pytest.mark.parametrize(
    ("text", "ends"),
    [("[1e3, 2.5e+3]", (1000, 2500)), ("['0', \"5\"]", (0, 5)), ("[-.5, +5.]", (-0.5, 5)),
     ("[010, 11]", (10, 11))],
)  # fmt: skip
def test_ranges_are_plain_numbers(tmp_path: Path, text: str, ends: tuple[float, float]) -> None:
    factor = _graph(tmp_path, f"factors: {{a: {{range: {text}}}}}\n").factors[0]
    assert (factor.low, factor.high) == ends


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("factors: {a: {range: [0, 1_000]}}", "plain numbers, not '1_000'"),
        ("factors: {a: {range: [0, 0x10]}}", "plain numbers, not '0x10'"),
        ("factors: {a: {range: [0, 1:30]}}", "plain numbers, not '1:30'"),
        ("factors: {a: {range: [0, ٣]}}", "plain numbers"),
        ("factors: {a: {range: [no, yes]}}", "plain numbers, not 'no'"),
        ("factors: {1: {}}", "'1' is not usable"),
        ("factors: {2020-01-01: {}}", "'2020-01-01' is not usable"),
        ("factors: {on: {}, 'on': {}}", "key 'on' twice"),
        ("factors: {a: {categories: [no, 'no']}}", "needs two or more different categories"),
        ("factors: {a: {categories: [[x], y]}}", "is no text: quote it"),
        ("factors: {a: {categories: yes}}", "needs a list of categories"),
    ],
)
def test_what_is_something_else_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GraphError, match=said):
        _graph(tmp_path, text)


def test_nothing_is_nothing_where_nothing_may_be(tmp_path: Path) -> None:
    for nothing in ("", "~", "null"):
        graph = _graph(tmp_path, f"factors:\n  a: {nothing}\n  b: {nothing}\nedges: {nothing}\n")
        assert graph == CausalGraph([Factor("a"), Factor("b")])


def test_merged_mappings_are_merged(tmp_path: Path) -> None:
    graph = _graph(tmp_path, "factors:\n  a: &a {range: [0, 5]}\n  b: {<<: *a, scale: linear}\n")
    assert graph.factors[1].high == 5


@settings(FUZZ, max_examples=40)
@given(st.lists(st.text("yesno01_.~e-", min_size=1, max_size=4), min_size=2, unique=True))
def test_any_word_survives_a_file(tmp_path: Path, words: list[str]) -> None:
    graph = CausalGraph([Factor("a", "categorical", categories=tuple(words))])
    assert _graph(tmp_path, yaml.safe_dump(graph.to_dict())) == graph


# --- in the YAML of an experiment ---

DATA = """\
class_path: data_modules.FactorTableDataModule
init_args:
  images: images
  table: factors.csv
  graph:
    factors:
      on: {kind: binary}
      shape: {categories: [yes, no, 01]}
      area: {range: [1, 1e3], scale: log}
      sons: {kind: integer, range: [0, 4]}
    edges:
      - [on, shape]
"""
EXPECTED = CausalGraph(
    [
        Factor("on", "binary"),
        Factor("shape", "categorical", categories=("yes", "no", "01")),
        Factor("area", low=1, high=1000, scale="log"),
        Factor("sons", "integer", 0, 4),
    ],
    [("on", "shape")],
)


def test_a_graph_may_stand_in_an_experiment(tmp_path: Path, capsys) -> None:
    path = tmp_path / "experiment.yaml"
    indented = "".join(f"  {line}\n" for line in DATA.splitlines())
    path.write_text(f"model:\n  class_path: diffcf.methods.ConditionalDiffusion\ndata:\n{indented}")
    assert load_data(path).graph == EXPECTED
    made = cli(["--config", str(path), "--trainer.accelerator", "cpu"], run=False)
    assert made.datamodule.graph == made.model.graph == EXPECTED
    again = tmp_path / "again.yaml"
    made.parser.save(made.config, again)
    assert load_data(again).graph == EXPECTED, "as the run's own config has it"
    assert main(["graph", str(path)]) == 0
    assert "yes, no, 01" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[yes, no, 01]", "[yes, yes]", "needs two or more different"),
        ("{kind: binary}", "{kind: maybe}", "has kind 'maybe'"),
        ("      sons: ", "      on: ", "key 'on' twice"),
    ],
)
def test_its_faults_are_one_sentence(tmp_path: Path, capsys, old: str, new: str, said: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(DATA.replace(old, new))
    assert main(["data", str(path)]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and "\n" not in told


def test_a_graph_given_as_a_class_asks_for_quotes(tmp_path: Path, capsys) -> None:
    path = tmp_path / "data.yaml"
    listed = "{class_path: diffcf.causal.CausalGraph, init_args: {factors: [{name: a, kind: "
    listed += "categorical, categories: [yes, no]}]}}"
    path.write_text(DATA[: DATA.index("graph:")] + f"graph: {listed}\n")
    assert main(["data", str(path)]) == 2
    assert "has True: quote it" in capsys.readouterr().err
